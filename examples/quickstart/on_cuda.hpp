#pragma once

#include <vector>

#include <elastic/attention.hpp>

using quickstart_mode = elastic::hybrid<elastic::full, elastic::streaming>;

/// The front door's steps on a CUDA device, from and to host memory. Returns who went where.
std::vector<std::int32_t> attend_on_cuda(quickstart_mode const& mode, elastic::ratio_router const& router,
                                         elastic::heads_view<float const> const& q,
                                         elastic::heads_view<float const> const& k,
                                         elastic::heads_view<float const> const& v,
                                         elastic::heads_view<float> const& out);
