// expects: anything
int const fine = 1;
