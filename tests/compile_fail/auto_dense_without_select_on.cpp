// expects: elastic: this selector has no select_on for this Backend
#include <elastic/attention.hpp>

struct everything {
  struct storage {
    elastic::block_sparse selected() const { return {}; }
  };
  storage bind(elastic::problem const&, elastic::workspace_cursor&) const { return {}; }
  void check(elastic::problem const&) const {}
};

#ifdef ELASTIC_SHOULD_COMPILE
template <class T>
void select_on(elastic::cpu const&, everything const&, everything::storage const&, elastic::select_inputs<T> const&,
               elastic::workspace) {}
#endif

void choose(elastic::attention<elastic::auto_dense<everything>> const& attend, elastic::heads_view<float> const& q,
            elastic::heads_view<float> const& k, elastic::const_assignment_view const& assignment) {
  attend.select(q, k, assignment, {});
}
