// Many steps of a program in one job: rows of arrays are gathered into its inputs, and its outputs kept, step by step.
#pragma once

#include "program.h"

namespace fastbp {

// What a step is given: `rows` rows of an array, in an order or one after the other.
struct Feed {
  const char* source;
  int64_t row_bytes;
  char* target;
};
// What a step leaves, or is given as it stands: `bytes` at `memory`, of which the table has one entry for each step.
struct Record {
  char* memory;
  char* table;
  int64_t bytes;
};

struct Epoch {
  const Program& program;
  int64_t steps, rows;
  const int64_t* order;  // of the rows, from the first step's first on; null: as they are
  std::vector<Feed> feeds;
  std::vector<Record> settings;  // copied from the table before each step
  std::vector<Record> results;   // copied to the table after each step
  mutable int64_t begun = 0;     // steps, that being run included

  // Runs all steps as one job, and returns how many: fewer where a guard ended one. The program is locked, its inputs
  // are placed at the feeds' targets.
  int64_t run() const;
};

}  // namespace fastbp
