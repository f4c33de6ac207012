// Every router.
#pragma once

#include <elastic/routers/fixed_router.hpp>
#include <elastic/routers/given_router.hpp>
#include <elastic/routers/mlp_router.hpp>
#include <elastic/routers/oracle_router.hpp>
#include <elastic/routers/random_router.hpp>
#include <elastic/routers/ratio_router.hpp>
#include <elastic/routers/router.hpp>
