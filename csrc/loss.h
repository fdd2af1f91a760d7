// All losses. Each gives the loss of every row, weighted but not divided, and in the same pass the gradients of the
// weighted mean, divided by *denominator.
#pragma once

#include "cosine_embedding.h"
#include "cross_entropy.h"
#include "element_loss.h"
#include "mixture_nll.h"
#include "nll.h"

namespace {
using namespace fastbp;

constexpr Entry kLossEntries[] = {
    {"cross_entropy_forward",
     Family::kSingle,
     2,
     {row_kernel<32>(cross_entropy_forward<float>), row_kernel<64>(cross_entropy_forward<double>)}},
    {"cross_entropy_probabilities_forward",
     Family::kSingle,
     1,
     {row_kernel<32>(cross_entropy_probabilities_forward<float>),
      row_kernel<64>(cross_entropy_probabilities_forward<double>)}},
    {"cross_entropy_denominator", Family::kSingle, 1, {denominator_kernel<float>(), denominator_kernel<double>()}},
    {"nll_forward", Family::kSingle, 1, {row_kernel<2>(nll_forward<float>), row_kernel<2>(nll_forward<double>)}},
    {"gaussian_nll_forward",
     Family::kSingle,
     2,
     {row_kernel<64>(gaussian_nll_forward<float>), row_kernel<128>(gaussian_nll_forward<double>)}},
    {"mixture_nll_forward", Family::kSingle, 0, {mixture_kernel<float>(), mixture_kernel<double>()}},
    {"cosine_embedding_forward",
     Family::kSingle,
     1,
     {row_kernel<16>(cosine_embedding_forward<float>), row_kernel<32>(cosine_embedding_forward<double>)}},
};

}  // namespace
