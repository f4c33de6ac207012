# cmake "-DCOMPILER=…;options that write nothing" -DSOURCE=… -DINCLUDES=… -P check.cmake
function(complain text)
  message("${SOURCE}: ${text}")
  message(FATAL_ERROR "This compile-fail test failed.")
endfunction()

file(READ ${SOURCE} text)
if(NOT text MATCHES "^// expects: ([^\n]+)")
  complain("the first line must be '// expects: TEXT'")
endif()
set(expected "${CMAKE_MATCH_1}")

list(TRANSFORM INCLUDES PREPEND -I)
set(compile ${COMPILER} -std=c++20 ${INCLUDES} ${SOURCE})

execute_process(COMMAND ${compile} RESULT_VARIABLE status ERROR_VARIABLE words)
if(status EQUAL 0)
  complain("compiles, but must not")
endif()
string(FIND "${words}" "${expected}" at)
if(at EQUAL -1)
  complain("the compiler does not say '${expected}', but\n${words}")
endif()

execute_process(COMMAND ${compile} -DELASTIC_SHOULD_COMPILE RESULT_VARIABLE status ERROR_VARIABLE words)
if(NOT status EQUAL 0)
  complain("must compile with ELASTIC_SHOULD_COMPILE, but\n${words}")
endif()
