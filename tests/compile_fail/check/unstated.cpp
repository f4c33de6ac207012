static_assert(false, "this file does not say what it expects");
