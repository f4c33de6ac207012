// expects: elastic: score hooks and sink logits go around a combination, not inside it
#include <elastic/attention.hpp>

using namespace elastic;

#ifdef ELASTIC_SHOULD_COMPILE
attention<scored<union_of<streaming, sliding_window>, soft_cap>> const attend;
#else
attention<union_of<scored<streaming, soft_cap>, sliding_window>> const attend;
#endif
