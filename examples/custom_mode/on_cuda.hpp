#pragma once

#include <elastic/attention.hpp>

#include "dilated_window.hpp"

using custom_hybrid = elastic::hybrid<elastic::full, dilated_window>;

/// Runs the hybrid on a CUDA device in float, from and to host memory.
void attend_on_cuda(custom_hybrid const& mode, elastic::ratio_router const& router,
                    elastic::heads_view<float const> const& x, elastic::heads_view<float> const& out);
