/* A muxer that records through libavformat's custom I/O: the library writes and seeks, and every
 * byte goes through writeflush. After each second of video a fence is asked for.
 *
 * What is durable has to be readable, too: an MP4 file has its index (moov) at the end, and is
 * worth nothing without it. So each second is a fragment with an index of its own.
 *
 *   muxer FILE SECONDS           records FILE (.mp4, .mkv, ...) through writeflush
 *   muxer --plain FILE SECONDS   the same pictures through libavformat's own file I/O
 *   muxer --kill N FILE SECONDS  says how many bytes are durable after N seconds, and kills itself
 */
#define _DEFAULT_SOURCE
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>

#include "writeflush.h"

enum { WIDTH = 320, HEIGHT = 240, RATE = 25, IO_BUFFER = 32 * 1024 };

static void die(const char *what, int code) {
  char why[512] = "";
  if (code == AVERROR_EXTERNAL)
    wf_last_error(why, sizeof why);
  else if (code)
    av_strerror(code, why, sizeof why);
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static void check(const char *what, int code) {
  if (code < 0) die(what, code);
}

/* ---- a file of bytes at any position: appends are writes, what lies behind is patched --------- */

typedef struct {
  wf_writer writer;
  uint64_t position, end;
} recording;

static int put(recording *it, const uint8_t *bytes, size_t count) {
  if (wf_write(it->writer, bytes, count, NULL) < 0) return AVERROR_EXTERNAL;
  it->end += count;
  return 0;
}

static int write_packet(void *opaque, uint8_t *bytes, int count) {
  recording *it = opaque;
  static const uint8_t zeros[4096];
  while (it->end < it->position) { /* a gap */
    uint64_t gap = it->position - it->end;
    if (put(it, zeros, gap < sizeof zeros ? gap : sizeof zeros)) return AVERROR_EXTERNAL;
  }
  size_t left = count;
  if (it->position < it->end) {
    uint64_t behind = it->end - it->position;
    size_t over = left < behind ? left : (size_t)behind;
    if (wf_patch(it->writer, it->position, bytes, over) < 0) return AVERROR_EXTERNAL;
    it->position += over;
    bytes += over;
    left -= over;
  }
  if (left > 0 && put(it, bytes, left)) return AVERROR_EXTERNAL;
  it->position += left;
  return count;
}

static int64_t seek(void *opaque, int64_t offset, int whence) {
  recording *it = opaque;
  switch (whence & ~AVSEEK_FORCE) {
  case AVSEEK_SIZE: return (int64_t)it->end;
  case SEEK_SET: break;
  case SEEK_CUR: offset += (int64_t)it->position; break;
  case SEEK_END: offset += (int64_t)it->end; break;
  default: return AVERROR(EINVAL);
  }
  if (offset < 0) return AVERROR(EINVAL);
  it->position = (uint64_t)offset;
  return offset;
}

/* ---- pictures --------------------------------------------------------------------------------- */

static void draw(AVFrame *frame, int number) {
  check("picture", av_frame_make_writable(frame));
  for (int y = 0; y < HEIGHT; y++)
    for (int x = 0; x < WIDTH; x++)
      frame->data[0][y * frame->linesize[0] + x] = (uint8_t)(x + y * 2 + number * 3);
  for (int plane = 1; plane < 3; plane++)
    for (int y = 0; y < HEIGHT / 2; y++)
      for (int x = 0; x < WIDTH / 2; x++)
        frame->data[plane][y * frame->linesize[plane] + x] = (uint8_t)(64 * plane + x + number);
  frame->pts = number;
}

static void encode(AVCodecContext *codec, AVFrame *frame, AVFormatContext *format, AVPacket *packet) {
  check("encode", avcodec_send_frame(codec, frame));
  while (avcodec_receive_packet(codec, packet) == 0) {
    packet->duration = 1;
    av_packet_rescale_ts(packet, codec->time_base, format->streams[0]->time_base);
    check("mux", av_interleaved_write_frame(format, packet));
  }
}

static AVCodecContext *open_codec(AVFormatContext *format) {
  const AVCodec *encoder = avcodec_find_encoder(AV_CODEC_ID_MPEG4);
  if (!encoder) die("there is no MPEG-4 encoder", 0);
  AVCodecContext *codec = avcodec_alloc_context3(encoder);
  codec->width = WIDTH;
  codec->height = HEIGHT;
  codec->time_base = (AVRational){1, RATE};
  codec->pix_fmt = AV_PIX_FMT_YUV420P;
  codec->bit_rate = 800 * 1000;
  codec->thread_count = 1;
  if (format->oformat->flags & AVFMT_GLOBALHEADER) codec->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
  check("codec", avcodec_open2(codec, encoder, NULL));
  AVStream *stream = avformat_new_stream(format, NULL);
  stream->time_base = codec->time_base;
  check("stream", avcodec_parameters_from_context(stream->codecpar, codec));
  return codec;
}

/* Ends the fragment (in Matroska: the cluster), so that whoever has these bytes can read them. */
static void end_fragment(AVFormatContext *format) {
  check("mux", av_interleaved_write_frame(format, NULL));
  check("mux", av_write_frame(format, NULL));
  avio_flush(format->pb);
}

static void tell_what_is_durable(wf_writer writer, wf_ticket ticket) {
  wf_positions positions;
  if (wf_wait(writer, ticket, -1) || wf_get_positions(writer, &positions, sizeof positions))
    die("fence", AVERROR_EXTERNAL);
  printf("%" PRIu64 " bytes durable\n", positions.durable);
  fflush(stdout);
}

int main(int argc, char **argv) {
  int plain = argc == 4 && strcmp(argv[1], "--plain") == 0;
  int kill_after = argc == 5 && strcmp(argv[1], "--kill") == 0 ? atoi(argv[2]) : 0;
  if (argc != 3 + plain + 2 * (kill_after > 0)) {
    fprintf(stderr, "usage: muxer [--plain | --kill N] FILE SECONDS\n");
    return 2;
  }
  const char *path = argv[argc - 2];
  int pictures = atoi(argv[argc - 1]) * RATE;

  AVFormatContext *format = NULL;
  check("format", avformat_alloc_output_context2(&format, NULL, NULL, path));
  AVCodecContext *codec = open_codec(format);

  recording it = {0};
  if (plain) {
    check("open", avio_open(&format->pb, path, AVIO_FLAG_WRITE));
  } else {
    if (wf_open(path, NULL, &it.writer)) die("open", AVERROR_EXTERNAL);
    uint8_t *buffer = av_malloc(IO_BUFFER);
    format->pb = avio_alloc_context(buffer, IO_BUFFER, 1, &it, NULL, write_packet, seek);
    format->flags |= AVFMT_FLAG_CUSTOM_IO;
  }
  AVDictionary *flags = NULL; /* of MP4; others don't take it */
  av_dict_set(&flags, "movflags", "frag_custom+empty_moov+default_base_moof", 0);
  check("header", avformat_write_header(format, &flags));
  av_dict_free(&flags);

  AVFrame *frame = av_frame_alloc();
  frame->format = codec->pix_fmt;
  frame->width = WIDTH;
  frame->height = HEIGHT;
  check("picture", av_frame_get_buffer(frame, 0));
  AVPacket *packet = av_packet_alloc();
  for (int number = 0; number < pictures; number++) {
    draw(frame, number);
    encode(codec, frame, format, packet);
    if (number % RATE == RATE - 1) end_fragment(format);
    if (!plain && number % RATE == RATE - 1) {
      wf_ticket ticket;
      wf_fence(it.writer, &ticket); /* goes on by itself; an error is sticky */
      if (number == kill_after * RATE - 1) tell_what_is_durable(it.writer, ticket);
    }
    if (kill_after && number == kill_after * RATE + RATE / 2) raise(SIGKILL);
  }
  encode(codec, NULL, format, packet);
  check("trailer", av_write_trailer(format));

  if (plain) {
    check("close", avio_closep(&format->pb));
  } else {
    avio_flush(format->pb);
    if (format->pb->error < 0) die("write", format->pb->error);
    av_freep(&format->pb->buffer);
    avio_context_free(&format->pb);
    uint64_t durable = 0;
    if (wf_close(it.writer, &durable)) die("close", AVERROR_EXTERNAL);
    printf("%" PRIu64 " bytes durable\n", durable);
  }
  av_packet_free(&packet);
  av_frame_free(&frame);
  avcodec_free_context(&codec);
  avformat_free_context(format);
  return 0;
}
