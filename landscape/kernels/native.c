/* Products with k entries (rows[j], cols[j]) of a matrix, for operands that lie token by token.
 *
 * A block of tokens is turned, so that the tokens of a row or a column lie side by side, and every
 * entry then takes one short dot product, or one scaled addition, of contiguous numbers. Both
 * functions return 0, or 1 where memory is short. Where the entries are fewer than a FEW-th of the
 * rows and columns, they are read where they lie. Tokens are divided among threads. Compiled with
 * NUMBER as float and as double.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_thread_num() 0
#endif

#define BLOCK 64 /* tokens turned at a time: two operands of 768 columns fill a second-level cache */
#define TILE 8

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static NUMBER *new_block(int64_t width) {
  return aligned_alloc(64, (size_t)(width > 0 ? width : 1) * BLOCK * sizeof(NUMBER));
}

/* to[u, t] = from[t, u] for t < tokens, u < width, and zero for the other t < BLOCK */
static void turn(const NUMBER *restrict from, int64_t tokens, int64_t width, NUMBER *restrict to) {
  int64_t whole = width - width % TILE;
  for (int64_t t = 0; t < BLOCK; t += TILE) {
    int64_t here = tokens - t < 0 ? 0 : least(tokens - t, TILE);
    if (here == TILE)
      for (int64_t u = 0; u < whole; u += TILE)
        for (int i = 0; i < TILE; ++i)
          for (int j = 0; j < TILE; ++j) to[(u + j) * BLOCK + t + i] = from[(t + i) * width + u + j];
    for (int64_t u = here == TILE ? whole : 0; u < width; ++u)
      for (int64_t i = 0; i < TILE; ++i)
        to[u * BLOCK + t + i] = i < here ? from[(t + i) * width + u] : 0;
  }
}

/* to[t, u] = from[u, t] for t < tokens, u < width */
static void turn_back(const NUMBER *restrict from, int64_t tokens, int64_t width,
                      NUMBER *restrict to) {
  int64_t whole_tokens = tokens - tokens % TILE, whole = width - width % TILE;
  for (int64_t t = 0; t < whole_tokens; t += TILE)
    for (int64_t u = 0; u < whole; u += TILE)
      for (int i = 0; i < TILE; ++i)
        for (int j = 0; j < TILE; ++j) to[(t + i) * width + u + j] = from[(u + j) * BLOCK + t + i];
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t u = t < whole_tokens ? whole : 0; u < width; ++u)
      to[t * width + u] = from[u * BLOCK + t];
}

/* out[j] = sum_t a[t, rows[j]] b[t, cols[j]]; a is (tokens, m), b is (tokens, n) */
int sampled(const NUMBER *a, int64_t m, const NUMBER *b, int64_t n, const int32_t *rows,
            const int32_t *cols, int64_t k, int64_t tokens, NUMBER *out, int threads) {
  int short_of_memory = 0, turned = k * FEW >= m + n;
  NUMBER *sums = calloc((size_t)threads * (size_t)k, sizeof(NUMBER));
  if (!sums) return 1;
#pragma omp parallel num_threads(threads)
  {
    NUMBER *at = turned ? new_block(m) : NULL, *bt = turned ? new_block(n) : NULL;
    NUMBER *sum = sums + (size_t)omp_get_thread_num() * (size_t)k;
    int ready = !turned || (at && bt);
    if (!ready) {
#pragma omp atomic write
      short_of_memory = 1;
    }
#pragma omp for schedule(static)
    for (int64_t first = 0; first < tokens; first += BLOCK) {
      int64_t here = least(tokens - first, BLOCK);
      const NUMBER *left = a + first * m, *right = b + first * n;
      if (!turned) {
        for (int64_t t = 0; t < here; ++t)
          for (int64_t j = 0; j < k; ++j) sum[j] += left[t * m + rows[j]] * right[t * n + cols[j]];
      } else if (ready) {
        turn(left, here, m, at);
        turn(right, here, n, bt);
        for (int64_t j = 0; j < k; ++j) {
          const NUMBER *row = at + (int64_t)rows[j] * BLOCK, *col = bt + (int64_t)cols[j] * BLOCK;
          NUMBER dot = 0;
#pragma omp simd reduction(+ : dot)
          for (int t = 0; t < BLOCK; ++t) dot += row[t] * col[t];
          sum[j] += dot;
        }
      }
    }
    free(at);
    free(bt);
  }
  memcpy(out, sums, (size_t)k * sizeof(NUMBER));
  for (int i = 1; i < threads; ++i)
    for (int64_t j = 0; j < k; ++j) out[j] += sums[(size_t)i * (size_t)k + j];
  free(sums);
  return short_of_memory;
}

/* out[t, sinks[j]] += v[j] x[t, sources[j]] from zero; x is (tokens, n), out is (tokens, m) */
int scattered(const NUMBER *v, const NUMBER *x, int64_t n, const int32_t *sources,
              const int32_t *sinks, int64_t k, int64_t tokens, NUMBER *out, int64_t m,
              int threads) {
  int short_of_memory = 0, turned = k * FEW >= m + n;
#pragma omp parallel num_threads(threads)
  {
    NUMBER *xt = turned ? new_block(n) : NULL, *yt = turned ? new_block(m) : NULL;
    int ready = !turned || (xt && yt);
    if (!ready) {
#pragma omp atomic write
      short_of_memory = 1;
    }
#pragma omp for schedule(static)
    for (int64_t first = 0; first < tokens; first += BLOCK) {
      int64_t here = least(tokens - first, BLOCK);
      const NUMBER *from = x + first * n;
      NUMBER *to = out + first * m;
      if (!turned) {
        memset(to, 0, (size_t)(here * m) * sizeof(NUMBER));
        for (int64_t t = 0; t < here; ++t)
          for (int64_t j = 0; j < k; ++j) to[t * m + sinks[j]] += v[j] * from[t * n + sources[j]];
      } else if (ready) {
        turn(from, here, n, xt);
        memset(yt, 0, (size_t)(m * BLOCK) * sizeof(NUMBER));
        for (int64_t j = 0; j < k; ++j) {
          const NUMBER *source = xt + (int64_t)sources[j] * BLOCK;
          NUMBER *restrict sink = yt + (int64_t)sinks[j] * BLOCK, scale = v[j];
#pragma omp simd
          for (int t = 0; t < BLOCK; ++t) sink[t] += scale * source[t];
        }
        turn_back(yt, here, m, to);
      }
    }
    free(xt);
    free(yt);
  }
  return short_of_memory;
}
