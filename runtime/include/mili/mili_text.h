/* Text for mili.h: a plan's tokenizer and chat template. libmili-text.so; a program that has token ids needs none of
 * it.
 *
 *   size_t bytes;
 *   const void *section = mili_engine_tokenizer(engine, &bytes);
 *   mili_tokenizer *tokenizer;
 *   if (mili_tokenizer_create(section, bytes, &tokenizer) != MILI_OK) { puts(mili_text_last_error()); return 1; }
 *
 * Conventions are those of mili.h; messages are in mili_text_last_error(). Text is UTF-8. A call that fills a buffer
 * sets *needed to how much there is and writes at most `capacity` of it: call again with a larger buffer where
 * *needed > capacity. A tokenizer may be used by several threads at once, a decoder by one.
 */
#ifndef MILI_MILI_TEXT_H
#define MILI_MILI_TEXT_H

#include "mili/mili.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mili_tokenizer mili_tokenizer;
typedef struct mili_decoder mili_decoder;

/* The message of this thread's last call of libmili-text that failed. Valid until the thread's next call. */
MILI_API const char *mili_text_last_error(void);

/* The section is copied. */
MILI_API mili_status mili_tokenizer_create(const void *section, size_t bytes, mili_tokenizer **tokenizer);
MILI_API void mili_tokenizer_destroy(mili_tokenizer *tokenizer);

/* Ids of a text of `bytes` bytes. add_special: with the tokenizer's prefix and suffix (BOS). parse_special: special
 * tokens written in the text are recognized; leave it 0 for text from strangers. */
MILI_API mili_status mili_tokenizer_encode(const mili_tokenizer *tokenizer, const char *text, size_t bytes,
                                           int32_t add_special, int32_t parse_special, int32_t *tokens, size_t capacity,
                                           size_t *needed);
/* The text of ids, not terminated by a zero. */
MILI_API mili_status mili_tokenizer_decode(const mili_tokenizer *tokenizer, const int32_t *tokens, size_t count,
                                           int32_t skip_special, char *text, size_t capacity, size_t *needed);

/* Decodes a stream token by token, whole characters at a time. The decoder must go before its tokenizer. */
MILI_API mili_status mili_decoder_create(const mili_tokenizer *tokenizer, int32_t skip_special, mili_decoder **decoder);
MILI_API void mili_decoder_destroy(mili_decoder *decoder);
/* The text that `token` completes, zero-terminated, perhaps ""; NULL where memory ran out. Valid until the decoder's
 * next call. */
MILI_API const char *mili_decoder_put(mili_decoder *decoder, int32_t token);
/* What is left at the end of a text. The decoder can be used again. */
MILI_API const char *mili_decoder_finish(mili_decoder *decoder);

typedef struct mili_chat_message {
  const char *role; /* "system", "user", "assistant" */
  const char *content;
} mili_chat_message;

/* The messages as the model's own chat template writes them; encode the result with add_special 0, parse_special 1.
 * add_generation_prompt: end with the beginning of the assistant's turn. MILI_NOT_FOUND where the model has no
 * template. */
MILI_API mili_status mili_chat_render(const mili_tokenizer *tokenizer, const mili_chat_message *messages, size_t count,
                                      int32_t add_generation_prompt, char *text, size_t capacity, size_t *needed);

#ifdef __cplusplus
}
#endif

#endif
