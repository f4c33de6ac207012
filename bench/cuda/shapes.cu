// What the forward pass does at other shapes than forward.cu's, causal unless its name says otherwise: dense attention
// by head dim and type (16 query and 4 KV heads at head dim 256, else 32 and 8), packed sequences of mixed lengths, and
// masks of smaller blocks. FLOP/s are those of full attention, 4 · pairs · head_dim, of masks those of the kept pairs;
// tensor_share as in forward.cu. of_equal: the FLOP/s of the mix against those of 8 packed sequences of 4096, in turn;
// of_128: the time of a mask of 128 × 128 that keeps the same pairs ÷ that of the smaller blocks, in turn.
#include <numeric>
#include <random>

#include <support/device.cuh>

namespace {

using namespace bench;

template <element T, int HeadDim>
void dense(benchmark::State& state, bool causal) {
  using attend_type = attention<full, fixed_router, cuda_for<HeadDim>>;
  head_shape const heads = HeadDim == 256 ? head_shape{16, 4, HeadDim} : head_shape{32, 8, HeadDim};
  attend_type const attend;
  options o;
  o.causal = causal;
  std::vector<std::int32_t> const routes(static_cast<std::size_t>(heads.query), 0);
  if (std::string const wrong = small_problem_fault<T>(attend, routes, {}, heads, o); !wrong.empty())
    return state.SkipWithError(wrong.c_str());
  int const length = static_cast<int>(state.range(0));
  device_tensors_of<T> const on(length, heads);
  problem const p = attend.shape(on.q(), on.k(), o);
  device_buffer<std::byte> const space(attend.workspace_bytes(p));
  replayed const run(1, [&](cudaStream_t s) {
    options here = o;
    here.stream = s;
    attend.forward(on.q(), on.k(), on.v(), on.out(), {}, on.assignment(), {space.data(), space.size()}, here);
  });
  times const ms = time_in_turn(state, false, std::cref(run));
  double visited = 0;
  for (int i = 0; i < ceil_div(length, 128); ++i) visited += tiles_of(full{}, locate(p, 0, 0, 0), i, {128, 64}).count;
  visited *= heads.query;
  state.counters["ms"] = ms.run;
  state.counters["busy_ms"] = busy_milliseconds(std::cref(run), ms.run);
  state.counters["FLOP/s"] = (causal ? 2. : 4.) * length * length * HeadDim * heads.query / ms.run * 1e3;
  state.counters["MHz"] = ms.megahertz;
  state.counters["tensor_share"] =
      visited * tile_cycles * HeadDim / head_dim / (multiprocessors() * ms.run * ms.megahertz * 1e3);
  state.SetLabel(name_of(attend.backend().template kernel<T>(p)));
}

/// Sequences of these lengths, one behind the other, in tensors of `total` rows.
class pack {
 public:
  pack(device_tensors const& on, std::vector<int> const& lengths)
      : on_(on),
        starts_(std::span<std::int32_t const>(starts_of(lengths))),
        routes_(lengths.size() * query_heads),
        longest_(*std::max_element(lengths.begin(), lengths.end())) {
    routes_.write(std::vector<std::int32_t>(routes_.size(), 0));
    for (int const n : lengths) flops_ += 2. * n * n * head_dim * query_heads;
    space_ = std::make_unique<device_buffer<std::byte>>(attend_.workspace_bytes(shape(nullptr)));
    run_ = std::make_unique<replayed>(1, [this](cudaStream_t s) {
      attend_.forward(on_.q(), on_.k(), on_.v(), on_.out(), {}, assignment(), {space_->data(), space_->size()}, of(s));
    });
  }

  void operator()(cudaStream_t s) const { (*run_)(s); }
  double flops() const { return flops_; }
  problem shape(cudaStream_t s) const { return attend_.shape(on_.q(), on_.k(), of(s)); }
  auto const& backend() const { return attend_.backend(); }

 private:
  static std::vector<std::int32_t> starts_of(std::vector<int> const& lengths) {
    std::vector<std::int32_t> starts{0};
    for (int const n : lengths) starts.push_back(starts.back() + n);
    return starts;
  }
  options of(cudaStream_t s) const {
    options o = on_stream(s);
    o.cu_seqlens_q = o.cu_seqlens_k = {starts_.data(), starts_.size()};
    o.max_q_len = o.max_k_len = longest_;
    return o;
  }
  assignment_view assignment() const {
    return {routes_.data(), {static_cast<std::int64_t>(starts_.size()) - 1, query_heads}};
  }

  attention<full, fixed_router, gpu> attend_;
  device_tensors const& on_;
  device_buffer<std::int32_t> starts_, routes_;
  int longest_;
  double flops_ = 0;
  std::unique_ptr<device_buffer<std::byte>> space_;
  std::unique_ptr<replayed> run_;
};

/// One sequence of the pack, computed alone, has the same bits.
std::string pack_fault(device_tensors const& on, pack const& mix, int begin, int length) {
  cuda_call(cudaMemset(on.out_memory.data(), 0xff, on.out_memory.size() * sizeof(bfloat16)), "cudaMemset");
  device_clock clock;
  clock.milliseconds(std::cref(mix));
  std::int64_t const row = query_heads * head_dim;
  auto const rows = [&] {
    std::vector<std::uint16_t> bits(static_cast<std::size_t>(length * row));
    cuda_call(cudaMemcpy(bits.data(), on.out_memory.data() + begin * row, bits.size() * 2, cudaMemcpyDeviceToHost),
              "cudaMemcpy");
    return bits;
  };
  auto const packed = rows();
  auto const part = [&](auto view) {
    view.data += begin * view.strides[1];
    view.extents[1] = length;
    return view;
  };
  attention<full, fixed_router, gpu> const alone;
  device_buffer<std::byte> const space(alone.workspace_bytes(alone.shape(part(on.q()), part(on.k()))));
  alone.forward(part(on.q()), part(on.k()), part(on.v()), part(on.out()), {}, on.assignment(),
                {space.data(), space.size()});
  cuda_call(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  return packed == rows() ? "" : "a packed sequence differs from the same one alone";
}

void packed(benchmark::State& state) {
  std::vector<int> const mixed{2500, 180, 8192, 500, 6000, 1800, 5000, 4096, 1000, 3500}, equal(8, 4096);
  device_tensors const& on = tensors_of(std::accumulate(mixed.begin(), mixed.end(), 0));
  pack const mix(on, mixed), same(on, equal);
  if (std::string const wrong = pack_fault(on, mix, 2680, 8192); !wrong.empty())
    return state.SkipWithError(wrong.c_str());
  times const ms = time_in_turn(state, false, std::cref(mix), std::cref(same));
  double const mix_rate = mix.flops() / ms.run * 1e3, same_rate = same.flops() / ms.baseline * 1e3;
  state.counters["ms"] = ms.run;
  state.counters["FLOP/s"] = mix_rate;
  state.counters["equal_FLOP/s"] = same_rate;
  state.counters["of_equal"] = mix_rate / same_rate;
  state.SetLabel(name_of(mix.backend().kernel<bfloat16>(mix.shape(nullptr))));
}

/// A causal mask drawn in blocks of 128 × 128, said in smaller ones.
class drawn_mask {
 public:
  drawn_mask(int length, double density, int rows, int columns)
      : memory_(std::span<std::uint8_t const>(draw(length, density, rows, columns))),
        mode_{{memory_.data(), {1, 1, ceil_div(length, 128) * (128 / rows), ceil_div(length, 128) * (128 / columns)}},
              rows,
              columns} {}

  block_mask const& mode() const { return mode_; }
  double pairs() const { return pairs_; }

 private:
  std::vector<std::uint8_t> draw(int length, double density, int rows, int columns) {
    int const blocks = ceil_div(length, 128), each_row = 128 / rows, each_column = 128 / columns;
    std::mt19937 random(3);
    std::bernoulli_distribution keep(density);
    std::vector<std::uint8_t> drawn, mask;
    for (int i = 0; i < blocks; ++i)
      for (int j = 0; j < blocks; ++j) {
        drawn.push_back(i == j || keep(random));
        pairs_ += j > i || drawn.back() == 0 ? 0 : i == j ? 128. * 129 / 2 : 128. * 128;
      }
    for (int i = 0; i < blocks * each_row; ++i)
      for (int j = 0; j < blocks * each_column; ++j)
        mask.push_back(drawn[static_cast<std::size_t>(i / each_row * blocks + j / each_column)]);
    return mask;
  }

  double pairs_ = 0;
  device_buffer<std::uint8_t> memory_;
  block_mask mode_;
};

void mask(benchmark::State& state) {
  using attend_type = attention<block_mask, fixed_router, gpu>;
  int const length = static_cast<int>(state.range(0)), rows = static_cast<int>(state.range(1)),
            columns = static_cast<int>(state.range(2));
  std::vector<std::int32_t> const routes(query_heads, 0);
  drawn_mask const small(384, 0.3, rows, columns);
  if (std::string const wrong = small_problem_fault(attend_type{small.mode()}, routes); !wrong.empty())
    return state.SkipWithError(wrong.c_str());
  device_tensors const& on = tensors_of(length);
  drawn_mask const fine(length, 0.3, rows, columns), coarse(length, 0.3, 128, 128);
  attend_type const attend{fine.mode()}, baseline{coarse.mode()};
  problem const p = attend.shape(on.q(), on.k());
  device_buffer<std::byte> const space(attend.workspace_bytes(p)), other(baseline.workspace_bytes(p));
  auto const prepared = [&](attend_type const& with, device_buffer<std::byte> const& memory) {
    with.select(on.q(), on.k(), on.assignment(), {memory.data(), memory.size()});
    return std::make_unique<replayed>(1, [&](cudaStream_t s) {
      with.forward(on.q(), on.k(), on.v(), on.out(), {}, on.assignment(), {memory.data(), memory.size()}, on_stream(s));
    });
  };
  auto const run = prepared(attend, space), reference_run = prepared(baseline, other);
  times const ms = time_in_turn(state, false, std::cref(*run), std::cref(*reference_run));
  state.counters["ms"] = ms.run;
  state.counters["FLOP/s"] = 4. * head_dim * query_heads * fine.pairs() / ms.run * 1e3;
  state.counters["of_128"] = ms.baseline / ms.run;
  state.SetLabel(name_of(attend.backend().kernel<bfloat16>(p)));
}

int const registered = [] {
  auto const add = [](std::string const& name, auto const& body) {
    by_events(name.c_str(), body)->ArgName("S")->Arg(16384);
  };
  auto const dims = [&]<element T>(T, char const* type) {
    auto const at = [&]<int HeadDim>(std::integral_constant<int, HeadDim>) {
      std::string const name = "/" + std::string(type) + "/head_dim:" + std::to_string(HeadDim);
      add("dense" + name, [](benchmark::State& s) { dense<T, HeadDim>(s, true); });
      add("dense_not_causal" + name, [](benchmark::State& s) { dense<T, HeadDim>(s, false); });
    };
    at(std::integral_constant<int, 64>{}), at(std::integral_constant<int, 96>{});
    at(std::integral_constant<int, 128>{}), at(std::integral_constant<int, 192>{});
    at(std::integral_constant<int, 256>{});
  };
  dims(bfloat16{}, "bfloat16"), dims(half{}, "half");
  by_events("packed/bfloat16", packed);
  by_events("mask/bfloat16", mask)
      ->ArgNames({"S", "rows", "columns"})
      ->ArgsProduct({{16384, 65536}, {128, 64}, {128, 64}});
  return 0;
}();

}  // namespace
