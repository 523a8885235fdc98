# flex_add_attention(TARGET FILE.flex
#     [NAME attention]           which one, if the file declares several
#     [TARGETS cpu sm_80 ...]    what it is compiled for: cpu, sm_80 (every GPU from 8.0 on), sm_90a (9.0 alone); default: cpu
#     [HEAD_DIM 128]             largest D of GPU code; code for the CPU serves every D and type
#     [V_HEAD_DIM 64]            largest DV, if it differs
#     [DTYPE bf16 f32 ...]       types of GPU code; default: bf16
#     [ALLOW_TF32]               f32 products on a GPU may be tf32
#     [GRAD]                     name::backward too
#     [ATOMIC]                   with GRAD: on GPUs it sums by atomics, not the same bits in each launch
#     [DEFINES window=1024 ...]  values of `const` parameters
#     [NAMESPACE name]           of the C++ functions; default: the attention's name
#     [HEADER name])             the header is name.h; default: NAMESPACE, else NAME, else the file's name
#
# Compiles an attention into an executable or a library: its sources may #include "name.h" and call name::forward (runtime/stream.h). The code is made again when
# the file, anything that it imports, or the compiler changes. A target may have any number of attentions. FLEXC_EXECUTABLE names a
# compiler other than the one of the package, as cross builds need.
include_guard(GLOBAL)

function(flex_add_attention target file)
  cmake_parse_arguments(PARSE_ARGV 2 ARG "ALLOW_TF32;GRAD;ATOMIC" "NAME;HEAD_DIM;V_HEAD_DIM;NAMESPACE;HEADER" "TARGETS;DTYPE;DEFINES")
  set(where "flex_add_attention(${target} ${file})")
  if(NOT TARGET ${target})
    message(FATAL_ERROR "${where}: there is no target `${target}`")
  endif()
  if(ARG_UNPARSED_ARGUMENTS OR ARG_KEYWORDS_MISSING_VALUES)
    message(FATAL_ERROR "${where}: cannot make sense of ${ARG_UNPARSED_ARGUMENTS} ${ARG_KEYWORDS_MISSING_VALUES}")
  endif()
  if(FLEXC_EXECUTABLE)
    set(flexc ${FLEXC_EXECUTABLE})
  elseif(TARGET flexc::flexc)
    set(flexc flexc::flexc)
  elseif(TARGET flexc)
    set(flexc flexc)
  else()
    message(FATAL_ERROR "${where}: this installation has the runtime alone; set FLEXC_EXECUTABLE to the compiler, flexc")
  endif()

  cmake_path(ABSOLUTE_PATH file BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR} NORMALIZE)
  cmake_path(GET file STEM LAST_ONLY stem)
  foreach(given NAME NAMESPACE HEADER)
    if(ARG_${given})
      string(REPLACE "::" "_" stem "${ARG_${given}}")
    endif()
  endforeach()
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/flex/${target})
  set(out ${folder}/${stem})
  get_property(known TARGET ${target} PROPERTY FLEX_ATTENTIONS)
  if(stem IN_LIST known)
    message(FATAL_ERROR "${where}: `${target}` has a `${stem}.h` already; give one of them another NAMESPACE or HEADER")
  endif()
  set_property(TARGET ${target} APPEND PROPERTY FLEX_ATTENTIONS ${stem})

  if(NOT ARG_TARGETS)
    set(ARG_TARGETS cpu)
  endif()
  list(JOIN ARG_TARGETS "," targets)
  set(options --target ${targets})
  if(ARG_DTYPE)
    list(JOIN ARG_DTYPE "," dtypes)
    list(APPEND options --dtype ${dtypes})
  endif()
  foreach(pair "NAME;--name" "NAMESPACE;--namespace" "HEAD_DIM;--head-dim" "V_HEAD_DIM;--v-head-dim")
    list(GET pair 0 given)
    list(GET pair 1 option)
    if(DEFINED ARG_${given})
      list(APPEND options ${option} ${ARG_${given}})
    endif()
  endforeach()
  if(ARG_ALLOW_TF32)
    list(APPEND options --allow-tf32)
  endif()
  if(ARG_ATOMIC AND NOT ARG_GRAD)
    message(FATAL_ERROR "${where}: ATOMIC is of the backward pass, which GRAD asks for")
  endif()
  if(ARG_GRAD)
    list(APPEND options --grad)
  endif()
  if(ARG_ATOMIC)
    list(APPEND options --atomic)
  endif()
  foreach(define ${ARG_DEFINES})
    list(APPEND options -D ${define})
  endforeach()

  file(MAKE_DIRECTORY ${folder})
  cmake_policy(PUSH)
  cmake_policy(SET CMP0116 NEW)   # paths of the depfile are understood by every generator
  add_custom_command(
    OUTPUT ${out}.h ${out}.o
    COMMAND ${flexc} build ${file} --emit=header ${options} -o ${out}.h --depfile ${out}.d
    DEPENDS ${file} ${flexc} DEPFILE ${out}.d
    COMMENT "Compiling the attention ${stem}" VERBATIM)
  cmake_policy(POP)
  set_source_files_properties(${out}.o PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
  target_sources(${target} PRIVATE ${out}.h ${out}.o)

  # Properties, because target_link_libraries would forbid the caller one of its two signatures.
  set_property(TARGET ${target} APPEND PROPERTY INCLUDE_DIRECTORIES ${folder})
  set_property(TARGET ${target} APPEND PROPERTY LINK_LIBRARIES flexc::runtime)
  get_target_property(type ${target} TYPE)
  if(NOT type STREQUAL "EXECUTABLE")
    set_property(TARGET ${target} APPEND PROPERTY INTERFACE_INCLUDE_DIRECTORIES $<BUILD_INTERFACE:${folder}>)
    set_property(TARGET ${target} APPEND PROPERTY INTERFACE_LINK_LIBRARIES flexc::runtime)
  endif()
endfunction()
