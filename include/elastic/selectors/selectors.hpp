// Every selector.
#pragma once

#include <elastic/selectors/antidiagonal.hpp>
#include <elastic/selectors/auto_dense.hpp>
#include <elastic/selectors/block_mask.hpp>
#include <elastic/selectors/cost_model.hpp>
#include <elastic/selectors/moba.hpp>
#include <elastic/selectors/planned.hpp>
#include <elastic/selectors/pooled_top_k.hpp>
#include <elastic/selectors/selector.hpp>
#include <elastic/selectors/top_k.hpp>
#include <elastic/selectors/vertical_slash.hpp>
