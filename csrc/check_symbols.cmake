# Fails when an object of kernels (OBJECTS, listed by NM) has a symbol that the linker could take for another object's,
# or that it would have to find elsewhere. GCC and Clang copy and fill memory by the C library, which chooses by the CPU
# it finds; plain x86-64 has no fused multiply-add but the C library's; names in __ are the compilers' own support.
foreach(object IN LISTS OBJECTS)
  execute_process(COMMAND ${NM} -P ${object} OUTPUT_VARIABLE symbols)
  if(NOT symbols MATCHES "kernel_table_")
    message(FATAL_ERROR "${object}: expected a table of kernels among the symbols that ${NM} lists, got '${symbols}'")
  endif()
  string(REGEX MATCHALL "[^\n]+" symbols "${symbols}")
  foreach(symbol IN LISTS symbols)
    if(symbol MATCHES "^[^ ]+ [WwVvuC]")
      message(FATAL_ERROR "${object}: expected no symbol that can be merged with another object's, got ${symbol}")
    elseif(symbol MATCHES "^[^ ]+ U" AND
           NOT symbol MATCHES "^(mem(cpy|set|move|cmp)|fmaf?|_GLOBAL_OFFSET_TABLE_|__[^ ]*) ")
      message(FATAL_ERROR "${object}: expected no symbol from elsewhere, got ${symbol}")
    endif()
  endforeach()
endforeach()
