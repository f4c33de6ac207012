// The safetensors format: read with safetensors_file, write with safetensors_writer.
//
//   auto const file = elastic::safetensors_file::open("layer.safetensors");
//   auto const q = file.view<elastic::half, 4>("q");           // in place
//   std::vector<float> const w = file.load<float>("weight");   // converted
//   elastic::safetensors_writer{}.add("o", {1, 128, 8, 64}, values).metadata("seed", "7").write("out.safetensors");
#pragma once

#include <elastic/io/safetensors_file.hpp>
#include <elastic/io/safetensors_writer.hpp>
