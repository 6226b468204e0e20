// One LSTM layer over whole sequences, forwards and backwards, for the CPU: a plain C interface, called by compiled.py.
//
// The batch is cut into tiles of a few rows, and a tile goes through all steps before the next one starts: its states
// stay in the first cache, the packed weights in the second. Gates stand as torch's: i, f, g, o. A block is as many
// hidden units as a vector has lanes; the four gates of a block lie next to each other, so that the product of a step
// ends in registers with all that the cell needs. What a tile computes does not depend on the number of threads, and
// gradients of weights are summed in a fixed order: one and two threads give the same bits.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64, kRows = 6;  // 6 rows x 4 vectors are summed at once: 24 of 32 registers
#elif defined(__AVX__)
constexpr int kBytes = 32, kRows = 3;  // 12 of 16
#elif defined(__aarch64__)
constexpr int kBytes = 16, kRows = 6;
#else
constexpr int kBytes = 16, kRows = 3;
#endif
constexpr long kFewest = 16, kMost = 32;  // rows of a tile: few where the batch is small, that there are some tiles
constexpr long kDepth = 96;  // rows x steps whose gates' gradients are collected before they go into the weights'
constexpr long kColumns = 32;  // of weights that are turned round at a time
constexpr long kSums = 8;    // sums of weights' gradients side by side: so many threads the way back can use

template <class T> struct Of { typedef T Vector __attribute__((vector_size(kBytes))); };
template <class T> using Vector = typename Of<T>::Vector;
template <class T> constexpr long kLanes = kBytes / sizeof(T);
template <int N> using Count = std::integral_constant<int, N>;

long divide_up(long what, long by) { return (what + by - 1) / by; }

// Memory that a thread keeps between calls, for each use its own; aligned to vectors.
enum Use { kPacked, kBias, kBack, kBackInput, kSum, kHidden, kNext, kCell, kGates, kBelow };
template <Use kUse, class T>
T* memory(long count) {
  struct alignas(64) Line { char bytes[64]; };
  thread_local std::vector<Line> lines;
  const std::size_t wanted = divide_up(count * sizeof(T), 64);
  if (lines.size() < wanted) lines = std::vector<Line>(wanted);
  return reinterpret_cast<T*>(lines.data());
}

// `count` numbers, or the whole vector: its length is a constant then, and no call.
template <class T>
Vector<T> load(const T* from, long count) {
  Vector<T> made{};
  count >= kLanes<T> ? std::memcpy(&made, from, kBytes) : std::memcpy(&made, from, count * sizeof(T));
  return made;
}

template <class T>
void store(T* to, const Vector<T>& what, long count) {
  count >= kLanes<T> ? std::memcpy(to, &what, kBytes) : std::memcpy(to, &what, count * sizeof(T));
}

// Odd rational function fitted on 0 … 8.3 (beyond, 1 − tanh is 1e-7): 3e-7 of the value in float32. NaN stays NaN.
inline Vector<float> tanh_of(Vector<float> x) {
  const Vector<float> high = 8.3f - Vector<float>{}, low = -high;
  x = x > high ? high : x;
  x = x < low ? low : x;
  const Vector<float> u = x * x;
  Vector<float> p = 1.464834212e-08f * u + 2.150855508e-05f;
  p = p * u + 3.549172740e-03f;
  p = p * u + 1.342587349e-01f;
  p = p * u + 9.999999907e-01f;
  Vector<float> q = 8.295142302e-07f * u + 3.373956340e-04f;
  q = q * u + 2.607996336e-02f;
  q = q * u + 4.675919833e-01f;
  q = q * u + 1.0f;
#ifdef __AVX512F__
  const Vector<float> guess = _mm512_rcp14_ps(q);  // 14 bits; one step of Newton's method makes them 2 ulp
  return x * p * (guess * (2.0f - q * guess));
#else
  return x * p / q;
#endif
}

inline Vector<double> tanh_of(Vector<double> x) {
  for (int lane = 0; lane < kLanes<double>; ++lane) x[lane] = std::tanh(x[lane]);
  return x;
}

template <class V>
inline V sigmoid_of(const V& x) {
  return tanh_of(x * 0.5f) * 0.5f + 0.5f;
}

// sum[r][n] += Σ_k a(k, r) w[k][n]: what every product here ends in. Along a's rows, or across them.
template <bool kAcross, class T, int R, int N>
inline __attribute__((always_inline)) void multiply(Vector<T> (&sum)[R][N], const T* a, long stride,
                                                    const Vector<T>* w, long depth) {
  for (long k = 0; k < depth; ++k, w += N) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vector<T> factor = (kAcross ? a[k * stride + r] : a[r * stride + k]) - Vector<T>{};  // + would be one
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sum[r][n] += factor * w[n];
    }
  }
}

// Calls with a constant number, at most kMost, and the first of each group; groups as even as can be.
template <int kMost, class F>
inline void in_groups(long whole, F&& call) {
  const long groups = divide_up(whole, kMost);
  for (long group = 0; group < groups; ++group) {
    const long first = group * whole / groups;
    switch ((group + 1) * whole / groups - first) {
      case 1: call(Count<1>{}, first); break;
      case 2: call(Count<2>{}, first); break;
      case 3: call(Count<std::min(3, kMost)>{}, first); break;
      case 4: call(Count<std::min(4, kMost)>{}, first); break;
      case 5: call(Count<std::min(5, kMost)>{}, first); break;
      default: call(Count<kMost>{}, first);
    }
  }
}

// Vector by vector: a call of memcpy would keep the sums out of the registers.
template <int N, class V>
inline __attribute__((always_inline)) void copy(V* to, const V* from) {
#pragma GCC unroll 24
  for (int at = 0; at < N; ++at) to[at] = from[at];
}

template <class T>
struct Call {  // as in compiled.py
  long batch, steps, inputs, size, threads;
  const T* x;  // (batch, steps, inputs), the last dimension dense
  long x_row, x_step;
  const T *w_input, *w_hidden, *b_input, *b_hidden;  // as nn.LSTM's
  const T *h0, *c0;                                   // null: zeros
  T *out, *h_end, *c_end;                             // (steps, batch, size), (batch, size)
  T* saved;        // null: nothing is kept. Else (steps, blocks, batch, 5, lanes), tile by tile
  const T* d_out;  // from here on for the way back. Null: zeros
  long d_out_row, d_out_step;
  const T *d_h_end, *d_c_end;      // null: zeros
  T *d_x, *d_h0, *d_c0;            // null: not wanted
  T *d_w_input, *d_w_hidden, *d_b;  // null: not wanted, all three
};

template <class T>
struct Layer {
  using V = Vector<T>;
  static constexpr long kWide = kLanes<T>;

  const Call<T>& call;
  const long batch = call.batch, steps = call.steps, inputs = call.inputs, size = call.size;
  const long blocks = divide_up(size, kWide), padded = blocks * kWide, in_blocks = divide_up(inputs, kWide);
  const long tiles = divide_up(batch, std::min(kMost, std::max(kFewest, batch / 4))), slots = std::min(tiles, kSums);
  const long columns = inputs + 1 + size;  // of the weights and the bias between them
  V *packed = nullptr, *bias = nullptr, *back = nullptr, *back_input = nullptr, *sums = nullptr;

  long unit(long block, long gate, long lane) const { return gate * size + block * kWide + lane; }
  long lanes(long block) const { return std::min(kWide, size - block * kWide); }
  long first_row(long tile) const { return tile * batch / tiles; }

  // -> [block][input, then hidden][gate]
  void pack_forward() {
    for (long j = 0; j < blocks; ++j)
      for (long gate = 0; gate < 4; ++gate) {
        const long at = unit(j, gate, 0);
        transpose(packed + j * (inputs + size) * 4 + gate, call.w_input + at * inputs, inputs, lanes(j));
        transpose(packed + (j * (inputs + size) + inputs) * 4 + gate, call.w_hidden + at * size, size, lanes(j));
        bias[j * 4 + gate] = load(call.b_input + at, lanes(j)) + load(call.b_hidden + at, lanes(j));
      }
  }

  // A row of `from` for each lane -> a vector for each column, some columns at a time: they stay in the first cache.
  static void transpose(V* to, const T* from, long width, long count) {
    T* const lanes = reinterpret_cast<T*>(to);
    for (long start = 0; start < width; start += kColumns) {
      const long end = std::min(width, start + kColumns);
      if (count < kWide)
        for (long k = start; k < end; ++k) to[k * 4] = V{};
      for (long lane = 0; lane < count; ++lane)
        for (long k = start; k < end; ++k) lanes[k * 4 * kWide + lane] = from[lane * width + k];
    }
  }

  // -> [group of 4 blocks of columns][block][gate][lane][column], for products with the gates' gradients
  void pack_backward(V* to, const T* from, long width) const {
    in_groups<4>(divide_up(width, kWide), [&](auto count, long first) {
      V* row = to + first * 4 * padded;
      for (long j = 0; j < blocks; ++j)
        for (long gate = 0; gate < 4; ++gate)
          for (long lane = 0; lane < kWide; ++lane)
            for (long n = 0; n < count(); ++n, ++row) {
              const long column = (first + n) * kWide;
              *row = lane < lanes(j) ? load(from + unit(j, gate, lane) * width + column, width - column) : V{};
            }
    });
  }

  template <class F>
  void by_tiles(long count, F&& run) const {
    [[maybe_unused]] const int threads = std::max(1L, std::min(call.threads, count));
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (long number = 0; number < count; ++number) run(number);
  }

  void forward() {
    packed = memory<kPacked, V>(blocks * 4 * (inputs + size));
    bias = memory<kBias, V>(blocks * 4);
    pack_forward();
    by_tiles(tiles, [this](long tile) { forward_tile(tile); });
  }

  V* saved_at(long row, long rows, long step, long block) const {
    V* tile = reinterpret_cast<V*>(call.saved) + row * steps * blocks * 5;
    return tile + (step * blocks + block) * rows * 5;
  }

  void forward_tile(long tile) const {
    const long row = first_row(tile), rows = first_row(tile + 1) - row;
    T *h = memory<kHidden, T>(rows * padded), *next = memory<kNext, T>(rows * padded);
    V* c = memory<kCell, V>(rows * blocks);
    start(h, c, call.h0, call.c0, row, rows);
    for (long t = 0; t < steps; ++t, std::swap(h, next))
      for (long j = 0; j < blocks; ++j)
        in_groups<kRows>(rows, [&](auto count, long first) {
          forward_step<count()>(row + first, t, j, h + first * padded, next + first * padded, c + j * rows + first,
                                call.saved ? saved_at(row, rows, t, j) + first * 5 : nullptr);
        });
    finish(call.h_end, call.c_end, h, c, row, rows);
  }

  template <int R>
  void forward_step(long row, long t, long j, const T* h, T* next, V* c, V* keep) const {
    V z[R * 4];
    forward_product<R>(z, call.x + row * call.x_row + t * call.x_step, t || call.h0 ? h : nullptr, j);
    for (int r = 0; r < R; ++r) {
      const V *of = z + r * 4;
      const V i = sigmoid_of(of[0]), f = sigmoid_of(of[1]), g = tanh_of(of[2]), o = sigmoid_of(of[3]);
      c[r] = f * c[r] + i * g;
      const V made = o * tanh_of(c[r]);
      store<T>(next + r * padded + j * kWide, made, kWide);
      store<T>(call.out + (t * batch + row + r) * size + j * kWide, made, lanes(j));
      if (keep) {
        V* kept = keep + r * 5;
        kept[0] = i, kept[1] = f, kept[2] = g, kept[3] = o, kept[4] = c[r];
      }
    }
  }

  // Apart from the gates, that the sums have the registers for themselves.
  template <int R>
  __attribute__((noinline)) void forward_product(V* z, const T* below, const T* h, long j) const {
    const V* w = packed + j * (inputs + size) * 4;
    V sum[R][4];
    for (int r = 0; r < R; ++r)
      for (int gate = 0; gate < 4; ++gate) sum[r][gate] = bias[j * 4 + gate];
    multiply<false>(sum, below, call.x_row, w, inputs);
    if (h) multiply<false>(sum, h, padded, w + inputs * 4, size);
    copy<R * 4>(z, &sum[0][0]);
  }

  void backward() {
    const long weights = call.d_w_input ? blocks * columns * 4 : 0;
    back = memory<kBack, V>(blocks * 4 * padded);
    sums = weights ? memory<kSum, V>(slots * weights) : nullptr;
    pack_backward(back, call.w_hidden, size);
    if (call.d_x) {
      back_input = memory<kBackInput, V>(in_blocks * 4 * padded);
      pack_backward(back_input, call.w_input, inputs);
    }
    by_tiles(slots, [this, weights](long slot) {
      if (sums) std::memset(static_cast<void*>(sums + slot * weights), 0, weights * sizeof(V));
      for (long tile = slot; tile < tiles; tile += slots) backward_tile(tile, sums + slot * weights);
    });
    if (sums) by_tiles(blocks, [this](long block) { unpack(block); });
  }

  void backward_tile(long tile, V* sum) const {
    const long row = first_row(tile), rows = first_row(tile + 1) - row;
    const long most = std::min(steps, std::max(1L, kDepth / rows));  // steps of a chunk
    V *d_gates = memory<kGates, V>(most * rows * 4 * blocks), *d_c = memory<kCell, V>(rows * blocks);
    T *d_h = memory<kHidden, T>(rows * padded), *below = memory<kBelow, T>(most * rows * columns);
    start(d_h, d_c, call.d_h_end, call.d_c_end, row, rows);
    for (long end = steps; end > 0; end -= most) {
      const long begin = std::max(0L, end - most), panel = (end - begin) * rows * 4;
      for (long t = end - 1; t >= begin; --t) {
        V* gates = d_gates + (t - begin) * rows * 4;
        for (long j = 0; j < blocks; ++j) backward_gates(row, rows, t, j, d_h, d_c, gates + j * panel);
        if (t) fetch(row, rows, t - 1);
        if (t || call.d_h0)
          propagate(gates, panel, back, blocks, rows, [&](long r, long n, const V& made) {
            store<T>(d_h + r * padded + n * kWide, made, kWide);
          });
        if (call.d_x)
          propagate(gates, panel, back_input, in_blocks, rows, [&](long r, long n, const V& made) {
            store<T>(call.d_x + ((row + r) * steps + t) * inputs + n * kWide, made, inputs - n * kWide);
          });
      }
      if (sums) add_weights(sum, d_gates, below, row, rows, begin, end);
    }
    finish(call.d_h0, call.d_c0, d_h, d_c, row, rows);
  }

  // What torch has in rows (null: zeros) -> h in rows of whole blocks, c in blocks of rows. `finish`: back.
  void start(T* h, V* c, const T* h_from, const T* c_from, long row, long rows) const {
    for (long j = 0; j < blocks; ++j)
      for (long r = 0; r < rows; ++r) {
        const long at = (row + r) * size + j * kWide;
        c[j * rows + r] = c_from ? load(c_from + at, lanes(j)) : V{};
        store<T>(h + r * padded + j * kWide, h_from ? load(h_from + at, lanes(j)) : V{}, kWide);
      }
  }

  void finish(T* h_to, T* c_to, const T* h, const V* c, long row, long rows) const {
    for (long j = 0; j < blocks; ++j)
      for (long r = 0; r < rows; ++r) {
        const long at = (row + r) * size + j * kWide;
        if (h_to) store<T>(h_to + at, load(h + r * padded + j * kWide, kWide), lanes(j));
        if (c_to) store<T>(c_to + at, c[j * rows + r], lanes(j));
      }
  }

  // The gates' gradients at a step, and the cell state's at the step before.
  void backward_gates(long row, long rows, long t, long j, const T* d_h, V* d_c, V* gates) const {
    const V *kept = saved_at(row, rows, t, j), *before = t ? saved_at(row, rows, t - 1, j) : nullptr;
    for (long r = 0; r < rows; ++r, kept += 5, gates += 4) {
      const V i = kept[0], f = kept[1], g = kept[2], o = kept[3], bent = tanh_of(kept[4]);
      V from{};
      if (before) from = before[r * 5 + 4];
      else if (call.c0) from = load(call.c0 + (row + r) * size + j * kWide, lanes(j));
      V above = load(d_h + r * padded + j * kWide, kWide);
      if (call.d_out)
        above += load(call.d_out + (row + r) * call.d_out_row + t * call.d_out_step + j * kWide, lanes(j));
      const V d = d_c[j * rows + r] + above * o * (1 - bent * bent);
      gates[0] = d * g * (i * (1 - i));
      gates[1] = d * from * (f * (1 - f));
      gates[2] = d * i * (1 - g * g);
      gates[3] = above * bent * (o * (1 - o));
      d_c[j * rows + r] = d * f;
    }
  }

  // What the next step back and the next chunk read comes from far away: ask for it now.
  void fetch(long row, long rows, long t) const {
    const auto ask = [](const T* from, long count) {
      for (long at = 0; at < count; at += 64 / sizeof(T)) __builtin_prefetch(from + at);
    };
    ask(reinterpret_cast<const T*>(saved_at(row, rows, t, 0)), blocks * rows * 5 * kWide);
    for (long r = row; r < row + rows; ++r) {
      if (call.d_out) ask(call.d_out + r * call.d_out_row + t * call.d_out_step, size);
      if (sums) ask(call.x + r * call.x_row + t * call.x_step, inputs);
      if (sums && t) ask(call.out + ((t - 1) * batch + r) * size, size);
    }
  }

  template <class F>
  void propagate(const V* gates, long panel, const V* weights, long width, long rows, F&& put) const {
    in_groups<4>(width, [&](auto count, long n) {
      in_groups<kRows>(rows, [&](auto group, long first) {
        constexpr int kR = group(), kN = count();
        V sum[kR][kN] = {};
        for (long j = 0; j < blocks; ++j)
          multiply<false>(sum, reinterpret_cast<const T*>(gates + j * panel + first * 4), 4 * kWide,
                          weights + n * 4 * padded + j * 4 * kWide * kN, 4 * kWide);
        for (int r = 0; r < kR; ++r)
          for (int m = 0; m < kN; ++m) put(first + r, n + m, sum[r][m]);
      });
    });
  }

  // sum[block][column][gate] += what the steps of a chunk say, all at once.
  void add_weights(V* sum, const V* gates, T* below, long row, long rows, long begin, long end) const {
    const long depth = (end - begin) * rows, skipped = begin || call.h0 ? 0 : rows;  // before step 0 there is nothing
    for (long t = begin; t < end; ++t)
      for (long r = 0; r < rows; ++r) {
        T* to = below + ((t - begin) * rows + r) * columns;
        copy_row(to, call.x + (row + r) * call.x_row + t * call.x_step, inputs);
        to[inputs] = 1;
        const T* h = t ? call.out + ((t - 1) * batch + row + r) * size : call.h0 ? call.h0 + (row + r) * size : nullptr;
        if (h) copy_row(to + inputs + 1, h, size);
      }
    for (long j = 0; j < blocks; ++j) {
      V* into = sum + j * columns * 4;
      const V* panel = gates + j * depth * 4;
      in_groups<kRows>(inputs + 1, [&](auto count, long n) { add<count()>(into + n * 4, below + n, panel, depth); });
      into += (inputs + 1) * 4;
      in_groups<kRows>(size, [&](auto count, long n) {
        add<count()>(into + n * 4, below + skipped * columns + inputs + 1 + n, panel + skipped * 4, depth - skipped);
      });
    }
  }

  static void copy_row(T* to, const T* from, long count) {
    long at = 0;
    for (; at + kWide <= count; at += kWide) store<T>(to + at, load(from + at, kWide), kWide);
    for (; at < count; ++at) to[at] = from[at];
  }

  template <int R>
  void add(V* into, const T* a, const V* w, long depth) const {
    V sum[R][4];
    copy<R * 4>(&sum[0][0], into), multiply<true>(sum, a, columns, w, depth), copy<R * 4>(into, &sum[0][0]);
  }

  void unpack(long j) const {
    for (long gate = 0; gate < 4; ++gate) {
      const long at = unit(j, gate, 0);
      const V* from = sums + j * columns * 4 + gate;
      scatter(call.d_w_input + at * inputs, from, inputs, lanes(j));
      scatter(call.d_b + at, from + inputs * 4, 1, lanes(j));
      scatter(call.d_w_hidden + at * size, from + (inputs + 1) * 4, size, lanes(j));
    }
  }

  // The sums of all slots, a row for each lane.
  void scatter(T* to, const V* from, long width, long count) const {
    V whole[kColumns];
    for (long start = 0; start < width; start += kColumns) {
      const long many = std::min(width - start, kColumns);
      for (long k = 0; k < many; ++k) {
        whole[k] = from[(start + k) * 4];
        for (long slot = 1; slot < slots; ++slot) whole[k] += from[(slot * blocks * columns + start + k) * 4];
      }
      const T* summed = reinterpret_cast<const T*>(whole);
      for (long lane = 0; lane < count; ++lane)
        for (long k = 0; k < many; ++k) to[lane * width + start + k] = summed[k * kWide + lane];
    }
  }
};

}  // namespace

extern "C" {
long lstm_vector_bytes() { return kBytes; }
#ifdef _OPENMP
int lstm_threaded() { return 1; }
#else
int lstm_threaded() { return 0; }
#endif
void lstm_forward_float(const Call<float>* call) { Layer<float>{*call}.forward(); }
void lstm_forward_double(const Call<double>* call) { Layer<double>{*call}.forward(); }
void lstm_backward_float(const Call<float>* call) { Layer<float>{*call}.backward(); }
void lstm_backward_double(const Call<double>* call) { Layer<double>{*call}.backward(); }
}
