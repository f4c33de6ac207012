// Every router.
#pragma once

#include <elastic/routers/fixed_router.hpp>
#include <elastic/routers/router.hpp>
