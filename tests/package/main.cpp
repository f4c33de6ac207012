#include <elastic/version.hpp>

#include <Eigen/Core>

int main() { return elastic::version.major + Eigen::Vector3i(0, 0, 0).sum(); }
