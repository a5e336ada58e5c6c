// What is more than a matrix product, one launch each. Compiled when first used.
//
// All values are f32 and contiguous; sixteen-bit numbers are bf16, written as their bits.

typedef unsigned long long u64;
typedef unsigned int u32;
typedef unsigned short u16;

// Less than every score.
#define LEAST (-__int_as_float(0x7f800000))

__device__ __forceinline__ float warp_sum(float x) {
    for (int step = 16; step > 0; step >>= 1) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
    for (int step = 16; step > 0; step >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

// The sum over a block of at most 1024 threads, in every thread.
__device__ float block_sum(float x) {
    __shared__ float parts[32];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    x = warp_sum(x);
    if (warps == 1) return x;
    __syncthreads();
    if (lane == 0) parts[warp] = x;
    __syncthreads();
    return warp_sum(lane < warps ? parts[lane] : 0.0f);
}

__device__ float block_max(float x) {
    __shared__ float parts[32];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    x = warp_max(x);
    if (warps == 1) return x;
    __syncthreads();
    if (lane == 0) parts[warp] = x;
    __syncthreads();
    return warp_max(lane < warps ? parts[lane] : LEAST);
}

// The nearest bf16, ties to even.
__device__ __forceinline__ u16 nearest_bf16(float x) {
    u32 bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (u16)((bits >> 16) | 0x40u);
    return (u16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

__device__ __forceinline__ float widened(u16 x) { return __uint_as_float((u32)x << 16); }

// x as a sum of `terms` bf16 numbers, the largest first: out[term][i].
extern "C" __global__ void split_bf16(const float* x, u16* out, u64 n, u32 terms) {
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float rest = x[i];
    for (u32 term = 0; term < terms; term++) {
        u16 part = nearest_bf16(rest);
        out[(u64)term * n + i] = part;
        float value = widened(part);
        rest = isfinite(value) ? rest - value : 0.0f;
    }
}

// y[i] = the sum of parts[term][i], the smallest first.
extern "C" __global__ void add_terms(const float* parts, float* y, u64 n, u32 terms) {
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float sum = 0.0f;
    for (u32 term = terms; term-- > 0;) sum += parts[(u64)term * n + i];
    y[i] = sum;
}

// One block a row of d values.
extern "C" __global__ void rms_norm(const float* x, const float* w, float* y, u32 d, float eps) {
    const float* row = x + (u64)blockIdx.x * d;
    float square = 0.0f;
    for (u32 i = threadIdx.x; i < d; i += blockDim.x) square += row[i] * row[i];
    float inverse = 1.0f / sqrtf(block_sum(square) / d + eps);
    float* out = y + (u64)blockIdx.x * d;
    for (u32 i = threadIdx.x; i < d; i += blockDim.x) out[i] = row[i] * inverse * w[i];
}

// With z = x inverse and h = grad w: dx = inverse (h - z mean(h z)).
extern "C" __global__ void rms_norm_back(const float* x, const float* w, const float* grad,
                                         float* dx, u32 d, float eps) {
    u64 start = (u64)blockIdx.x * d;
    const float *row = x + start, *g = grad + start;
    float square = 0.0f, along = 0.0f;
    for (u32 i = threadIdx.x; i < d; i += blockDim.x) {
        square += row[i] * row[i];
        along += g[i] * w[i] * row[i];
    }
    float inverse = 1.0f / sqrtf(block_sum(square) / d + eps);
    float level = block_sum(along) * inverse / d;
    for (u32 i = threadIdx.x; i < d; i += blockDim.x)
        dx[start + i] = inverse * (g[i] * w[i] - row[i] * inverse * level);
}

// Rotates the pairs (x[i], x[i + half]) of each head of each token by its angle times `sign`.
extern "C" __global__ void rope(const float* x, const float* cosines, const float* sines, float* y,
                                u64 pairs, u32 heads, u32 half, float sign) {
    u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= pairs) return;
    u32 i = index % half;
    u64 head = index / half, token = head / heads;
    float c = cosines[token * half + i], s = sines[token * half + i] * sign;
    u64 at = head * 2 * half + i;
    float a = x[at], b = x[at + half];
    y[at] = a * c - b * s;
    y[at + half] = b * c + a * s;
}

extern "C" __global__ void swiglu(const float* gate, const float* up, float* y, u64 n) {
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    y[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

extern "C" __global__ void swiglu_back(const float* gate, const float* up, const float* grad,
                                       float* dgate, float* dup, u64 n) {
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float g = gate[i], s = 1.0f / (1.0f + expf(-g));
    dgate[i] = grad[i] * up[i] * s * (1.0f + g * (1.0f - s));
    dup[i] = grad[i] * g * s;
}

// One block a row of s scores, in place: softmax(scale score + mask), zeros where nothing is seen.
// Row i of all rows has row i mod n of the mask.
extern "C" __global__ void masked_softmax(float* scores, const float* mask, const float* live,
                                          u32 n, u32 s, float scale) {
    float* row = scores + (u64)blockIdx.x * s;
    u32 query = blockIdx.x % n;
    const float* hidden = mask + (u64)query * s;
    float largest = LEAST;
    for (u32 i = threadIdx.x; i < s; i += blockDim.x)
        largest = fmaxf(largest, row[i] * scale + hidden[i]);
    largest = block_max(largest);
    float sum = 0.0f;
    for (u32 i = threadIdx.x; i < s; i += blockDim.x) {
        float weight = expf(row[i] * scale + hidden[i] - largest);
        row[i] = weight;
        sum += weight;
    }
    float share = live[query] / block_sum(sum);
    for (u32 i = threadIdx.x; i < s; i += blockDim.x) row[i] *= share;
}

// One block a row: dp becomes ds = p (dp - sum(p dp)) scale.
extern "C" __global__ void softmax_back(const float* p, float* dp, u32 s, float scale) {
    u64 start = (u64)blockIdx.x * s;
    float along = 0.0f;
    for (u32 i = threadIdx.x; i < s; i += blockDim.x) along += p[start + i] * dp[start + i];
    along = block_sum(along);
    for (u32 i = threadIdx.x; i < s; i += blockDim.x)
        dp[start + i] = p[start + i] * (dp[start + i] - along) * scale;
}

struct Rows {
    u32 index[64];
};

// Row rows.index[blockIdx.x] of the buffer becomes row blockIdx.x of what is new.
extern "C" __global__ void write_rows(float* buffer, const float* added, Rows rows, u32 width) {
    float* to = buffer + (u64)rows.index[blockIdx.x] * width;
    const float* from = added + (u64)blockIdx.x * width;
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) to[i] = from[i];
}

struct Step {
    float beta1, beta2, eps, keep, rate, root, grad_scale;
};

// One step of AdamW, in place.
extern "C" __global__ void adamw(float* p, const float* grad, float* mean, float* square, u64 n,
                                 Step step) {
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float g = grad[i] * step.grad_scale;
    float m = mean[i] + (1.0f - step.beta1) * (g - mean[i]);
    float s = step.beta2 * square[i] + (1.0f - step.beta2) * g * g;
    mean[i] = m;
    square[i] = s;
    p[i] = p[i] * step.keep - step.rate * m / (sqrtf(s) / step.root + step.eps);
}

__device__ __forceinline__ void load8(const u16* from, float* to) {
    uint4 pairs = *(const uint4*)from;
    u32 words[4] = {pairs.x, pairs.y, pairs.z, pairs.w};
    for (int i = 0; i < 4; i++) {
        to[2 * i] = __uint_as_float(words[i] << 16);
        to[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
}

__device__ __forceinline__ void load8(const float* from, float* to) {
    float4 a = ((const float4*)from)[0], b = ((const float4*)from)[1];
    to[0] = a.x; to[1] = a.y; to[2] = a.z; to[3] = a.w;
    to[4] = b.x; to[5] = b.y; to[6] = b.z; to[7] = b.w;
}

// Rows of a weight that one block multiplies, and tokens of which it does.
#define ROWS 4
#define TOKENS 8

// y = x w^T + scale low b^T for up to T tokens: a block reads its rows of w once, each thread a part
// of them. `rank` 0: without the second product.
template <int T, typename W>
__device__ void few_rows(const float* x, const W* w, const float* low, const float* b, float* y,
                         u32 d, u32 n, u32 rank, float scale, u32 count) {
    float sums[ROWS][T] = {};
    u32 first = blockIdx.x * ROWS;
    for (u32 i = threadIdx.x * 8; i < d; i += blockDim.x * 8) {
        float weights[ROWS][8];
        for (int r = 0; r < ROWS; r++) load8(w + (u64)min(first + r, n - 1) * d + i, weights[r]);
        for (int t = 0; t < T; t++) {
            float values[8];
            load8(x + (u64)min((u32)t, count - 1) * d + i, values);
            for (int r = 0; r < ROWS; r++)
                for (int j = 0; j < 8; j++) sums[r][t] += weights[r][j] * values[j];
        }
    }
    __shared__ float parts[4][ROWS * T];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    for (int r = 0; r < ROWS; r++)
        for (int t = 0; t < T; t++) {
            float sum = warp_sum(sums[r][t]);
            if (lane == 0) parts[warp][r * T + t] = sum;
        }
    __syncthreads();
    u32 row = first + threadIdx.x / T, token = threadIdx.x % T;
    if (threadIdx.x >= ROWS * T || row >= n || token >= count) return;
    float sum = 0.0f, change = 0.0f;
    for (int warp = 0; warp < 4; warp++) sum += parts[warp][threadIdx.x];
    for (u32 k = 0; k < rank; k++) change += low[(u64)token * rank + k] * b[(u64)row * rank + k];
    y[(u64)token * n + row] = sum + scale * change;
}

// blockIdx.y counts groups of TOKENS tokens. Blocks are of 128 threads; d is a multiple of 8.
template <typename W>
__device__ void all_few_rows(const float* x, const W* w, const float* low, const float* b,
                             float* y, u32 t, u32 d, u32 n, u32 rank, float scale) {
    u32 start = blockIdx.y * TOKENS, count = min(t - start, (u32)TOKENS);
    x += (u64)start * d;
    low += (u64)start * rank;
    y += (u64)start * n;
    if (count == 1) few_rows<1>(x, w, low, b, y, d, n, rank, scale, count);
    else if (count == 2) few_rows<2>(x, w, low, b, y, d, n, rank, scale, count);
    else if (count <= 4) few_rows<4>(x, w, low, b, y, d, n, rank, scale, count);
    else few_rows<TOKENS>(x, w, low, b, y, d, n, rank, scale, count);
}

extern "C" __global__ void few_rows_bf16(const float* x, const u16* w, const float* low,
                                         const float* b, float* y, u32 t, u32 d, u32 n, u32 rank,
                                         float scale) {
    all_few_rows(x, w, low, b, y, t, d, n, rank, scale);
}

extern "C" __global__ void few_rows_f32(const float* x, const float* w, const float* low,
                                        const float* b, float* y, u32 t, u32 d, u32 n, u32 rank,
                                        float scale) {
    all_few_rows(x, w, low, b, y, t, d, n, rank, scale);
}
