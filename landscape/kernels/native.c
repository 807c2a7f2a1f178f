/* Products with k entries of a (m, n) matrix, for operands that lie token by token.
 *
 * The entries come row by row, as in CSR: their flat indices, ascending, and the rows' offsets.
 * A block of tokens is transposed, so that the tokens of a row or a column lie side by side, and
 * every entry then takes one short dot product, or one scaled addition, of contiguous numbers. Where
 * the entries are fewer than a FEW-th of the rows and columns, operands are read where they lie.
 * Tokens are divided among threads. Both functions return 0, or 1 where memory is short.
 * Compiled with SCALAR as float and as double.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_thread_num() 0
#endif

#define BLOCK 64 /* tokens transposed at a time: two operands of 768 columns fill a second-level cache */
#define TILE 8
#define INLINE static inline __attribute__((always_inline))

typedef struct {
  const int64_t *flat;   /* k ascending indices into the matrix */
  const int32_t *row_offsets; /* m + 1 places among them */
  int64_t m, n, k;
} Entries;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* tokens that a block holds: whole tiles, at least one, few where there are few */
static int64_t block_of(int64_t tokens) {
  return least(BLOCK, tokens < TILE ? TILE : (tokens + TILE - 1) / TILE * TILE);
}

static SCALAR *new_block(int64_t width, int64_t block) {
  return aligned_alloc(64, ((size_t)(width * block) * sizeof(SCALAR) + 64) / 64 * 64);
}

/* to[u, t] = from[t, u] for t < tokens, u < width, and zero for the other t < block */
INLINE void transpose(const SCALAR *restrict from, int64_t tokens, int64_t width, SCALAR *restrict to,
                 int64_t block) {
  int64_t whole = width - width % TILE;
  for (int64_t t = 0; t < block; t += TILE) {
    int64_t here = tokens - t < 0 ? 0 : least(tokens - t, TILE);
    if (here == TILE)
      for (int64_t u = 0; u < whole; u += TILE)
        for (int i = 0; i < TILE; ++i)
          for (int j = 0; j < TILE; ++j) to[(u + j) * block + t + i] = from[(t + i) * width + u + j];
    for (int64_t u = here == TILE ? whole : 0; u < width; ++u)
      for (int64_t i = 0; i < TILE; ++i)
        to[u * block + t + i] = i < here ? from[(t + i) * width + u] : 0;
  }
}

/* to[t, u] = from[u, t] for t < tokens, u < width */
INLINE void transpose_back(const SCALAR *restrict from, int64_t tokens, int64_t width,
                      SCALAR *restrict to, int64_t block) {
  int64_t whole_tokens = tokens - tokens % TILE, whole = width - width % TILE;
  for (int64_t t = 0; t < whole_tokens; t += TILE)
    for (int64_t u = 0; u < whole; u += TILE)
      for (int i = 0; i < TILE; ++i)
        for (int j = 0; j < TILE; ++j) to[(t + i) * width + u + j] = from[(u + j) * block + t + i];
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t u = t < whole_tokens ? whole : 0; u < width; ++u)
      to[t * width + u] = from[u * block + t];
}

/* sum[j] += the dot product of row and column j, both transposed */
INLINE void add_dots(const SCALAR *at, const SCALAR *bt, Entries e, SCALAR *sum, int64_t block) {
  for (int64_t r = 0; r < e.m; ++r) {
    const SCALAR *row = at + r * block;
    for (int64_t j = e.row_offsets[r]; j < e.row_offsets[r + 1]; ++j) {
      const SCALAR *col = bt + (e.flat[j] - r * e.n) * block;
      SCALAR dot = 0;
#pragma omp simd reduction(+ : dot)
      for (int64_t t = 0; t < block; ++t) dot += row[t] * col[t];
      sum[j] += dot;
    }
  }
}

/* sinks += v times sources, both transposed: columns into rows, or rows into columns */
INLINE void add_scaled(const SCALAR *v, SCALAR *rows, SCALAR *cols, int into_rows, Entries e,
                       int64_t block) {
  for (int64_t r = 0; r < e.m; ++r)
    for (int64_t j = e.row_offsets[r]; j < e.row_offsets[r + 1]; ++j) {
      SCALAR *row = rows + r * block, *col = cols + (e.flat[j] - r * e.n) * block;
      const SCALAR *restrict source = into_rows ? col : row;
      SCALAR *restrict sink = into_rows ? row : col, scale = v[j];
#pragma omp simd
      for (int64_t t = 0; t < block; ++t) sink[t] += scale * source[t];
    }
}

/* out[j] = sum_t a[t, row of j] b[t, column of j]; a is (tokens, m), b is (tokens, n) */
int sampled(const SCALAR *a, const SCALAR *b, const int64_t *flat, const int32_t *row_offsets, int64_t m,
            int64_t n, int64_t k, int64_t tokens, SCALAR *out, int threads) {
  Entries e = {flat, row_offsets, m, n, k};
  int short_of_memory = 0, transposed = k * FEW >= m + n;
  int64_t block = block_of(tokens);
  SCALAR *sums = calloc((size_t)threads * (size_t)k, sizeof(SCALAR));
  if (!sums) return 1;
#pragma omp parallel num_threads(threads)
  {
    SCALAR *at = transposed ? new_block(m, block) : NULL, *bt = transposed ? new_block(n, block) : NULL;
    SCALAR *sum = sums + (size_t)omp_get_thread_num() * (size_t)k;
    int ready = !transposed || (at && bt);
    if (!ready) {
#pragma omp atomic write
      short_of_memory = 1;
    }
#pragma omp for schedule(static)
    for (int64_t first = 0; first < tokens; first += block) {
      int64_t here = least(tokens - first, block);
      const SCALAR *left = a + first * m, *right = b + first * n;
      if (!transposed) {
        for (int64_t j = 0; j < k; ++j) {
          int64_t r = flat[j] / n, c = flat[j] - r * n;
          for (int64_t t = 0; t < here; ++t) sum[j] += left[t * m + r] * right[t * n + c];
        }
      } else if (ready && block == BLOCK) {
        transpose(left, here, m, at, BLOCK);
        transpose(right, here, n, bt, BLOCK);
        add_dots(at, bt, e, sum, BLOCK);
      } else if (ready) {
        transpose(left, here, m, at, block);
        transpose(right, here, n, bt, block);
        add_dots(at, bt, e, sum, block);
      }
    }
    free(at);
    free(bt);
  }
  memcpy(out, sums, (size_t)k * sizeof(SCALAR));
  for (int i = 1; i < threads; ++i)
    for (int64_t j = 0; j < k; ++j) out[j] += sums[(size_t)i * (size_t)k + j];
  free(sums);
  return short_of_memory;
}

/* into rows: x is (tokens, n), out (tokens, m), out[t, row of j] += v[j] x[t, column of j] from
 * zero; otherwise the same with rows and columns exchanged */
int scattered(const SCALAR *v, const SCALAR *x, const int64_t *flat, const int32_t *row_offsets,
              int64_t m, int64_t n, int64_t k, int64_t tokens, SCALAR *out, int into_rows,
              int threads) {
  Entries e = {flat, row_offsets, m, n, k};
  int short_of_memory = 0, transposed = k * FEW >= m + n;
  int64_t block = block_of(tokens), from_width = into_rows ? n : m, to_width = into_rows ? m : n;
#pragma omp parallel num_threads(threads)
  {
    SCALAR *xt = transposed ? new_block(from_width, block) : NULL;
    SCALAR *yt = transposed ? new_block(to_width, block) : NULL;
    int ready = !transposed || (xt && yt);
    if (!ready) {
#pragma omp atomic write
      short_of_memory = 1;
    }
#pragma omp for schedule(static)
    for (int64_t first = 0; first < tokens; first += block) {
      int64_t here = least(tokens - first, block);
      const SCALAR *from = x + first * from_width;
      SCALAR *to = out + first * to_width;
      if (!transposed) {
        memset(to, 0, (size_t)(here * to_width) * sizeof(SCALAR));
        for (int64_t j = 0; j < k; ++j) {
          int64_t r = flat[j] / n, c = flat[j] - r * n;
          int64_t source = into_rows ? c : r, sink = into_rows ? r : c;
          for (int64_t t = 0; t < here; ++t)
            to[t * to_width + sink] += v[j] * from[t * from_width + source];
        }
      } else if (ready) {
        SCALAR *rows = into_rows ? yt : xt, *cols = into_rows ? xt : yt;
        memset(yt, 0, (size_t)(to_width * block) * sizeof(SCALAR));
        if (block == BLOCK) {
          transpose(from, here, from_width, xt, BLOCK);
          add_scaled(v, rows, cols, into_rows, e, BLOCK);
          transpose_back(yt, here, to_width, to, BLOCK);
        } else {
          transpose(from, here, from_width, xt, block);
          add_scaled(v, rows, cols, into_rows, e, block);
          transpose_back(yt, here, to_width, to, block);
        }
      }
    }
    free(xt);
    free(yt);
  }
  return short_of_memory;
}
