// Every selector.
#pragma once

#include <elastic/selectors/moba.hpp>
#include <elastic/selectors/selector.hpp>
