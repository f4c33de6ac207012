// A CUDA call that failed, told by its name, the file and line it was made from, and the runtime's own
// words. Bad input is elastic::error (core/error.hpp), thrown before anything is launched.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace elastic {

class cuda_error : public std::runtime_error {
 public:
  cuda_error(std::string call, std::string file, int line, int code, std::string const& reason)
      : std::runtime_error("elastic: " + call + " failed in " + file + ":" + std::to_string(line) + ": " + reason +
                           " (" + std::to_string(code) + ")"),
        call_(std::move(call)),
        file_(std::move(file)),
        code_(code) {}

  std::string const& call() const noexcept { return call_; }
  std::string const& file() const noexcept { return file_; }
  int code() const noexcept { return code_; }  // a cudaError_t

 private:
  std::string call_, file_;
  int code_;
};

}  // namespace elastic
