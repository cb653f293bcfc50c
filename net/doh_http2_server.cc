#include "net/doh_http2_server.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "core/check.h"
#include "net/limits.h"

namespace tunnel::net {
namespace {

// What is gathered before the stream gets it: a few TLS records.
constexpr size_t kServerBatchBytes = size_t{16} * 1024;

nghttp2_nv ReplyField(const std::pair<std::string, std::string>& field) {
  // nghttp2 copies both; its interface lacks the const.
  return {.name = reinterpret_cast<uint8_t*>(const_cast<char*>(field.first.data())),
          .value = reinterpret_cast<uint8_t*>(const_cast<char*>(field.second.data())),
          .namelen = field.first.size(),
          .valuelen = field.second.size(),
          .flags = NGHTTP2_NV_FLAG_NONE};
}

}  // namespace

struct DohHttp2Server::Callbacks {
  static int OnBeginFrame(nghttp2_session* /*session*/, const nghttp2_frame_hd* header, void* user) {
    auto& self = *static_cast<DohHttp2Server*>(user);
    if (++self.frames_ > kFrames) self.over_bounds_ = true;
    // Counted here, for it counts whatever nghttp2 makes of it.
    if (header->type == NGHTTP2_HEADERS && ++self.requests_ > kRequests) self.over_bounds_ = true;
    return self.over_bounds_ ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
  }

  static int OnBeginHeaders(nghttp2_session* /*session*/, const nghttp2_frame* frame, void* user) {
    auto& self = *static_cast<DohHttp2Server*>(user);
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
      self.streams_.try_emplace(frame->hd.stream_id, std::make_unique<Stream>());
    }
    return 0;
  }

  static int OnHeader(nghttp2_session* /*session*/, const nghttp2_frame* frame, const uint8_t* name_data,
                      size_t name_size, const uint8_t* value_data, size_t value_size, uint8_t /*flags*/, void* user) {
    auto& self = *static_cast<DohHttp2Server*>(user);
    Stream* stream = self.Find(frame->hd.stream_id);
    if (stream == nullptr) return 0;
    constexpr size_t kFieldOverhead = 32;  // RFC 9113 section 6.5.2
    stream->header_bytes += name_size + value_size + kFieldOverhead;
    if (stream->header_bytes > kHeaderBytes) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;  // resets the stream
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;                               // trailers
    const std::string_view name(reinterpret_cast<const char*>(name_data), name_size);
    const std::string_view value(reinterpret_cast<const char*>(value_data), value_size);
    if (name == ":method") stream->request.method = value;
    if (name == ":path") stream->request.path = value;
    if (name == "content-type") stream->request.content_type = value;
    if (name == "sec-websocket-protocol") stream->request.protocol = value;
    return 0;
  }

  static int OnDataChunk(nghttp2_session* /*session*/, uint8_t /*flags*/, int32_t id, const uint8_t* data, size_t size,
                         void* user) {
    Stream* stream = static_cast<DohHttp2Server*>(user)->Find(id);
    if (stream == nullptr || stream->request.too_long) return 0;
    std::string& body = stream->request.body;
    if (size > kMaxDohQueryBytes - body.size()) {
      stream->request.too_long = true;
      body = std::string();
    } else {
      body.append(reinterpret_cast<const char*>(data), size);
    }
    return 0;
  }

  static int OnFrame(nghttp2_session* /*session*/, const nghttp2_frame* frame, void* user) {
    auto& self = *static_cast<DohHttp2Server*>(user);
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return 0;
    Stream* stream = self.Find(frame->hd.stream_id);
    if (stream == nullptr || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) return 0;
    self.Answer(frame->hd.stream_id, *stream);
    return 0;
  }

  static int OnStreamClose(nghttp2_session* /*session*/, int32_t id, uint32_t /*error_code*/, void* user) {
    static_cast<DohHttp2Server*>(user)->streams_.erase(id);
    return 0;
  }

  static ssize_t ReadReply(nghttp2_session* /*session*/, int32_t /*id*/, uint8_t* out, size_t room, uint32_t* flags,
                           nghttp2_data_source* source, void* /*user*/) {
    Stream& stream = *static_cast<Stream*>(source->ptr);
    const size_t size = std::min(room, stream.reply.size() - stream.sent);
    std::copy_n(stream.reply.begin() + static_cast<ptrdiff_t>(stream.sent), size, out);
    stream.sent += size;
    if (stream.sent == stream.reply.size()) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(size);
  }
};

DohHttp2Server::DohHttp2Server(core::Reactor& reactor, ByteStream& stream, Responder responder)
    : reactor_(reactor),
      stream_(stream),
      responder_(std::move(responder)),
      idle_(reactor.timers(), [this] { End(NGHTTP2_NO_ERROR); }) {
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_option* option = nullptr;
  // What fails in here is memory alone, on which we end as everywhere.
  TUNNEL_CHECK(nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0);
  nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, Callbacks::OnBeginFrame);
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, Callbacks::OnBeginHeaders);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, Callbacks::OnHeader);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, Callbacks::OnDataChunk);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, Callbacks::OnFrame);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, Callbacks::OnStreamClose);
  nghttp2_option_set_max_outbound_ack(option, kOwedAcks);
  // Closed streams are not kept for the priority tree.
  nghttp2_option_set_no_closed_streams(option, 1);
  TUNNEL_CHECK(nghttp2_session_server_new2(&session_, callbacks, this, option) == 0);
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(callbacks);
  const std::array<nghttp2_settings_entry, 2> settings = {{
      {.settings_id = NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, .value = kStreamsAtOnce},
      {.settings_id = NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, .value = kHeaderBytes},
  }};
  TUNNEL_CHECK(nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings.data(), settings.size()) == 0);
}

DohHttp2Server::~DohHttp2Server() { nghttp2_session_del(session_); }

core::Task<bool> DohHttp2Server::Serve() {
  stream_.SetHandler(this);
  idle_.SetAfter(kNegotiationLimit);  // the first request is part of it
  Flush();
  const absl::Status waited = co_await done_.Wait();
  if (!waited.ok()) End(NGHTTP2_NO_ERROR);
  idle_.Cancel();
  if (!dead_) stream_.SetHandler(nullptr);
  co_return !dead_;
}

void DohHttp2Server::OnData(core::Slice data) {
  if (done_.is_set()) return;
  received_bytes_ += data.size();
  const auto taken = nghttp2_session_mem_recv(session_, data.data(), data.size());
  if (over_bounds_ || received_bytes_ > kOverheadBytes + requests_ * kBytesPerRequest) {
    End(NGHTTP2_ENHANCE_YOUR_CALM);
  } else if (taken < 0) {
    End(taken == NGHTTP2_ERR_FLOODED ? NGHTTP2_ENHANCE_YOUR_CALM : NGHTTP2_PROTOCOL_ERROR);
  } else {
    Flush();
  }
}

void DohHttp2Server::OnEnd() { End(NGHTTP2_NO_ERROR); }

void DohHttp2Server::OnDrained() {
  if (std::exchange(paused_, false)) stream_.ResumeReceive();
  Flush();
}

void DohHttp2Server::OnDead(absl::Status /*reason*/) {
  dead_ = true;
  done_.Set();
}

DohHttp2Server::Stream* DohHttp2Server::Find(int32_t stream_id) {
  const auto found = streams_.find(stream_id);
  return found == streams_.end() ? nullptr : found->second.get();
}

void DohHttp2Server::Answer(int32_t stream_id, Stream& stream) {
  if (std::exchange(stream.answered, true)) return;
  DohReply reply = responder_(stream.request);
  std::vector<std::pair<std::string, std::string>> fields = {{":status", std::to_string(reply.status)}};
  for (auto& [name, value] : DohReplyFields(reply)) {
    std::string lower(name);
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    fields.emplace_back(std::move(lower), std::move(value));
  }
  std::vector<nghttp2_nv> block;
  block.reserve(fields.size());
  for (const auto& field : fields) block.push_back(ReplyField(field));
  stream.reply = std::move(reply.body);
  nghttp2_data_provider provider = {.source = {.ptr = &stream}, .read_callback = Callbacks::ReadReply};
  const bool with_body = stream.request.method != "HEAD" && !stream.reply.empty();
  stream.request = Http2Request();
  // Fails for want of memory only, and then the time without an answer ends the connection.
  (void)nghttp2_submit_response(session_, stream_id, block.data(), block.size(), with_body ? &provider : nullptr);
  idle_.SetAfter(kIdleRequestLimit);
}

void DohHttp2Server::Flush() {
  std::vector<uint8_t> batch;
  while (!done_.is_set() && stream_.writable()) {
    const uint8_t* data = nullptr;
    const auto size = nghttp2_session_mem_send(session_, &data);
    if (size < 0) {
      dead_ = true;
      stream_.Abort();
      done_.Set();
      return;
    }
    batch.insert(batch.end(), data, data + size);
    if (size > 0 && batch.size() < kServerBatchBytes) continue;
    if (!batch.empty()) stream_.Send(reactor_.buffers().Copy(std::span<const uint8_t>(batch)));
    batch.clear();
    if (size > 0) continue;
    if (nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0) done_.Set();
    return;
  }
  if (done_.is_set()) return;
  paused_ = true;
  stream_.PauseReceive();
}

void DohHttp2Server::End(uint32_t error_code) {
  if (done_.is_set()) return;
  nghttp2_session_terminate_session(session_, error_code);
  Flush();
  done_.Set();
}

}  // namespace tunnel::net
