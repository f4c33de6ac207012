// expects: refused
static_assert(false, "refused");
