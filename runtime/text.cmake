# Text beside the engine: tokenizer and chat template. PCRE2 and utf8proc come from static archives, so that nothing
# beyond libc is needed at run time; Debian builds both position-independent.
find_path(MILI_PCRE2_INCLUDE pcre2.h)
find_library(MILI_PCRE2_ARCHIVE NAMES libpcre2-8.a)
find_path(MILI_UTF8PROC_INCLUDE utf8proc.h)
find_library(MILI_UTF8PROC_ARCHIVE NAMES libutf8proc.a)
foreach(part PCRE2:libpcre2-dev UTF8PROC:libutf8proc-dev)
  string(REPLACE ":" ";" part ${part})
  list(GET part 0 library)
  list(GET part 1 package)
  if(NOT MILI_${library}_INCLUDE OR NOT MILI_${library}_ARCHIVE)
    message(FATAL_ERROR "The static archive or the header of ${library} is missing; on Debian: apt-get install ${package}")
  endif()
endforeach()

add_library(mili_text STATIC
  text/added_tokens.cc
  text/bpe.cc
  text/chat_template.cc
  text/splitter.cc
  text/template_filters.cc
  text/template_lexer.cc
  text/template_methods.cc
  text/template_parser.cc
  text/template_values.cc
  text/tokenizer.cc
  text/tokenizer_section.cc
  text/unicode.cc)
target_include_directories(mili_text PUBLIC ${MILI_PUBLIC_INCLUDE} PRIVATE ${MILI_PCRE2_INCLUDE} ${MILI_UTF8PROC_INCLUDE})
target_compile_definitions(mili_text PRIVATE PCRE2_STATIC UTF8PROC_STATIC)
target_link_libraries(mili_text PUBLIC mili_base PRIVATE $<BUILD_INTERFACE:mili_schema> $<BUILD_INTERFACE:mili_options>
  ${MILI_PCRE2_ARCHIVE} ${MILI_UTF8PROC_ARCHIVE})
