// Every mode.
#pragma once

#include <elastic/modes/block_sparse.hpp>
#include <elastic/modes/combine.hpp>
#include <elastic/modes/dense_heads.hpp>
#include <elastic/modes/forgets.hpp>
#include <elastic/modes/full.hpp>
#include <elastic/modes/hybrid.hpp>
#include <elastic/modes/listed.hpp>
#include <elastic/modes/predicate.hpp>
#include <elastic/modes/scored.hpp>
#include <elastic/modes/sink_logits.hpp>
#include <elastic/modes/sliding_window.hpp>
#include <elastic/modes/streaming.hpp>
#include <elastic/modes/triangle.hpp>
