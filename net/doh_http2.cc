#include "net/doh_http2.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "core/check.h"

namespace tunnel::net {
namespace {

using core::Slice;

// Acknowledgements waiting to be sent: a server that makes us owe more floods us.
constexpr size_t kMaxOwedAcks = 64;
// What is gathered before the stream gets it: a few TLS records.
constexpr size_t kSendBatchBytes = size_t{16} * 1024;

nghttp2_nv Field(std::string_view name, std::string_view value) {
  // nghttp2 copies both; its interface lacks the const.
  return {.name = reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
          .value = reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())),
          .namelen = name.size(),
          .valuelen = value.size(),
          .flags = NGHTTP2_NV_FLAG_NONE};
}

std::string_view Text(const uint8_t* data, size_t size) { return {reinterpret_cast<const char*>(data), size}; }

}  // namespace

struct DohHttp2::Callbacks {
  static ssize_t ReadBody(nghttp2_session* /*session*/, int32_t /*id*/, uint8_t* out, size_t room, uint32_t* flags,
                          nghttp2_data_source* source, void* /*user*/) {
    std::string_view& unsent = static_cast<Exchange*>(source->ptr)->unsent;
    const size_t size = std::min(room, unsent.size());
    std::memcpy(out, unsent.data(), size);
    unsent.remove_prefix(size);
    if (unsent.empty()) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(size);
  }

  static int OnHeader(nghttp2_session* /*session*/, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                      const uint8_t* value, size_t value_size, uint8_t /*flags*/, void* user) {
    auto& self = *static_cast<DohHttp2*>(user);
    Exchange* exchange = self.Find(frame->hd.stream_id);
    if (exchange == nullptr) return 0;
    constexpr size_t kFieldOverhead = 32;  // RFC 9113 section 6.5.2
    exchange->header_bytes += name_size + value_size + kFieldOverhead;
    if (exchange->header_bytes > kDohMaxHeaderBytes) {
      self.Finish(frame->hd.stream_id, ProtocolError("over {} bytes of header fields", kDohMaxHeaderBytes));
      return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    if (exchange->head_done) return 0;  // trailers
    if (Text(name, name_size) == ":status") {
      // nghttp2 has checked that it is three digits. A second head follows an interim one.
      exchange->status = 0;
      for (const char digit : Text(value, value_size)) exchange->status = exchange->status * 10 + (digit - '0');
      exchange->content_type.clear();
    } else if (Text(name, name_size) == "content-type") {
      exchange->content_type = Text(value, value_size);
    }
    return 0;
  }

  static int OnFrame(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    auto& self = *static_cast<DohHttp2*>(user);
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return 0;
    const int32_t id = frame->hd.stream_id;
    Exchange* exchange = self.Find(id);
    if (exchange == nullptr) return 0;
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) exchange->ended = true;
    const bool interim = exchange->status / 100 == 1;
    if (frame->hd.type == NGHTTP2_HEADERS && !interim && !exchange->head_done) {
      exchange->head_done = true;
      absl::Status head = CheckDohHead(exchange->status, exchange->content_type);
      if (!head.ok()) self.Refuse(session, id, std::move(head));
    }
    return 0;
  }

  static int OnDataChunk(nghttp2_session* session, uint8_t /*flags*/, int32_t id, const uint8_t* data, size_t size,
                         void* user) {
    auto& self = *static_cast<DohHttp2*>(user);
    Exchange* exchange = self.Find(id);
    if (exchange == nullptr) return 0;
    if (size > kDohMaxBodyBytes - exchange->body.size()) {
      self.Refuse(session, id, ProtocolError("an answer of over {} bytes", kDohMaxBodyBytes));
    } else {
      exchange->body.insert(exchange->body.end(), data, data + size);
    }
    return 0;
  }

  static int OnStreamClose(nghttp2_session* /*session*/, int32_t id, uint32_t error_code, void* user) {
    auto& self = *static_cast<DohHttp2*>(user);
    const Exchange* exchange = self.Find(id);
    if (exchange == nullptr) return 0;
    if (error_code != NGHTTP2_NO_ERROR) {
      self.Finish(id, Unavailable("the answer was broken off ({})", nghttp2_http2_strerror(error_code)));
    } else if (!exchange->ended) {
      self.Finish(id, Unavailable("the answer was broken off"));
    } else {
      self.Finish(id, absl::OkStatus());
    }
    return 0;
  }

  static int OnInvalidFrame(nghttp2_session* /*session*/, const nghttp2_frame* /*frame*/, int error, void* user) {
    static_cast<DohHttp2*>(user)->complaint_ = nghttp2_strerror(error);
    return 0;
  }
};

DohHttp2::DohHttp2(core::Reactor& reactor, std::unique_ptr<ByteStream> stream)
    : reactor_(reactor),
      stream_(std::move(stream)),
      idle_(reactor.timers(), [this] { CloseInOrder(Unavailable("the connection was idle")); }) {
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_option* option = nullptr;
  // What fails in here is memory alone, on which we end as everywhere.
  TUNNEL_CHECK(nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, Callbacks::OnHeader);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, Callbacks::OnFrame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, Callbacks::OnDataChunk);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, Callbacks::OnStreamClose);
  nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, Callbacks::OnInvalidFrame);
  nghttp2_option_set_max_outbound_ack(option, kMaxOwedAcks);
  nghttp2_option_set_max_reserved_remote_streams(option, 0);
  TUNNEL_CHECK(nghttp2_session_client_new2(&session_, callbacks, this, option) == 0);
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(callbacks);
  const std::array<nghttp2_settings_entry, 2> settings = {{
      {.settings_id = NGHTTP2_SETTINGS_ENABLE_PUSH, .value = 0},
      {.settings_id = NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, .value = kDohMaxHeaderBytes},
  }};
  TUNNEL_CHECK(nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings.data(), settings.size()) == 0);
  stream_->SetHandler(this);
  idle_.SetAfter(kIdleLimit);
}

DohHttp2::~DohHttp2() {
  TUNNEL_CHECK(exchanges_.empty());
  CloseInOrder(absl::OkStatus());
  nghttp2_session_del(session_);
}

bool DohHttp2::usable() const { return !closed_ && !mute_ && nghttp2_session_check_request_allowed(session_) != 0; }

core::Task<absl::StatusOr<std::vector<uint8_t>>> DohHttp2::Fetch(DohRequest request) {
  if (!usable()) co_return Unavailable("the connection takes no more questions");
  const bool post = !request.body.empty();
  std::vector<nghttp2_nv> fields = {
      Field(":method", post ? "POST" : "GET"),
      Field(":scheme", "https"),
      Field(":authority", request.authority),
      Field(":path", request.path),
      Field("accept", kDnsMediaType),
      // An aged answer would have to have its TTLs lowered (RFC 8484 section 5.1): a fresh one is asked for instead.
      Field("cache-control", "no-cache"),
  };
  const std::string length = std::to_string(request.body.size());
  if (post) {
    fields.push_back(Field("content-type", kDnsMediaType));
    fields.push_back(Field("content-length", length));
  }
  Exchange exchange;
  exchange.unsent = request.body;
  nghttp2_data_provider body = {};
  body.source.ptr = &exchange;
  body.read_callback = Callbacks::ReadBody;
  const int32_t id =
      nghttp2_submit_request(session_, nullptr, fields.data(), fields.size(), post ? &body : nullptr, nullptr);
  if (id < 0) co_return Unavailable("HTTP/2: {}", nghttp2_strerror(id));
  exchanges_.emplace(id, &exchange);
  allowed_bytes_ += kDohMaxBodyBytes + kDohMaxOverheadBytes;
  const size_t received_before = received_bytes_;
  idle_.Cancel();
  Flush();
  while (!exchange.done) {
    const absl::Status waited = co_await exchange.finished.Wait();
    if (!waited.ok() && !exchange.done) {
      Finish(id, waited);
      if (received_bytes_ == received_before) mute_ = true;
      if (!closed_) {
        nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
        Flush();
      }
    }
  }
  AfterTurn();
  if (!exchange.failure.ok()) co_return exchange.failure;
  co_return std::move(exchange.body);
}

void DohHttp2::OnData(Slice data) {
  if (closed_) return;
  received_bytes_ += data.size();
  if (received_bytes_ > allowed_bytes_) {
    Abort(ProtocolError("more bytes than its answers have"));
    return;
  }
  const auto taken = nghttp2_session_mem_recv(session_, data.data(), data.size());
  if (taken < 0) {
    Abort(ProtocolError("HTTP/2: {}", nghttp2_strerror(static_cast<int>(taken))));
    return;
  }
  Flush();
  AfterTurn();
}

void DohHttp2::OnEnd() { CloseInOrder(Unavailable("the connection ended before the answer did")); }

void DohHttp2::OnDrained() {
  Flush();
  AfterTurn();
}

void DohHttp2::OnDead(absl::Status reason) {
  closed_ = true;
  idle_.Cancel();
  FailAll(reason);
}

DohHttp2::Exchange* DohHttp2::Find(int32_t stream_id) {
  const auto found = exchanges_.find(stream_id);
  return found == exchanges_.end() ? nullptr : found->second;
}

void DohHttp2::Finish(int32_t stream_id, absl::Status status) {
  const auto found = exchanges_.find(stream_id);
  if (found == exchanges_.end()) return;
  Exchange* exchange = found->second;
  exchanges_.erase(found);
  exchange->failure = std::move(status);
  exchange->done = true;
  exchange->finished.Set();
}

void DohHttp2::Refuse(nghttp2_session* session, int32_t stream_id, absl::Status status) {
  Finish(stream_id, std::move(status));
  // Fails for want of memory only, and then the bound on received bytes ends the connection.
  (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream_id, NGHTTP2_CANCEL);
}

void DohHttp2::Flush() {
  std::vector<uint8_t> batch;
  while (!closed_ && stream_->writable()) {
    const uint8_t* data = nullptr;
    const auto size = nghttp2_session_mem_send(session_, &data);
    if (size < 0) {
      Abort(ProtocolError("HTTP/2: {}", nghttp2_strerror(static_cast<int>(size))));
      return;
    }
    batch.insert(batch.end(), data, data + size);
    if (size > 0 && batch.size() < kSendBatchBytes) continue;
    if (!batch.empty()) stream_->Send(reactor_.buffers().Copy(std::span<const uint8_t>(batch)));
    batch.clear();
    if (size == 0) return;
  }
}

void DohHttp2::AfterTurn() {
  if (closed_) return;
  if (nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0) {
    const bool complained = !complaint_.empty();
    CloseInOrder(complained ? ProtocolError("HTTP/2: {}", complaint_)
                            : Unavailable("the server closed the connection (GOAWAY)"));
    return;
  }
  if (!exchanges_.empty()) {
    idle_.Cancel();
  } else if (!idle_.armed()) {
    idle_.SetAfter(kIdleLimit);
  }
}

void DohHttp2::CloseInOrder(const absl::Status& reason) {
  if (closed_) return;
  nghttp2_session_terminate_session(session_, NGHTTP2_NO_ERROR);
  Flush();
  if (closed_) return;
  closed_ = true;
  idle_.Cancel();
  stream_->CloseAfterSend(kDohCloseLimit);
  FailAll(reason);
}

void DohHttp2::Abort(const absl::Status& reason) {
  closed_ = true;
  idle_.Cancel();
  stream_->Abort();
  FailAll(reason);
}

void DohHttp2::FailAll(const absl::Status& reason) {
  while (!exchanges_.empty()) Finish(exchanges_.begin()->first, reason);
}

}  // namespace tunnel::net
