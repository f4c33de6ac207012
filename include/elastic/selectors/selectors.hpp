// Every selector.
#pragma once

#include <elastic/selectors/selector.hpp>
