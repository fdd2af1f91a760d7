// Which kernel table this CPU may use, and which one is in use.
#pragma once

#include <string>
#include <vector>

#include "kernel.h"

namespace fastbp {

const std::vector<const KernelTable*>& available_tables();  // slowest first; never empty
const KernelTable* active_table();
bool set_active_table(const std::string& isa);  // false where this CPU cannot run it

// Bytes read and written from which a call's outputs go past the caches, the same in all tables. At first the size of
// the last cache; to be changed only while no kernel runs.
int64_t stream_gate();
void set_stream_gate(int64_t bytes);

// Entry `index` of list `list` in the active table; positions are equal in all tables.
const Entry& active_entry(int list, int index);

}  // namespace fastbp
