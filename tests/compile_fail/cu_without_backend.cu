// expects: elastic: a .cu file names its Backend: cuda or cuda_for<...>, or reference; cpu is for .cpp files
#include <elastic/cuda/cuda.cuh>

#ifdef ELASTIC_SHOULD_COMPILE
elastic::attention<elastic::full, elastic::fixed_router, elastic::cuda_for<64>> const attend;
#else
elastic::attention<elastic::full> const attend;
#endif
