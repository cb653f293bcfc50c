// DoH resolvers in memory, well-behaved or hostile, and the connector that leads to them.
#pragma once

#include <nghttp2/nghttp2.h>

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/reactor.h"
#include "memory_stream.h"
#include "net/doh_connector.h"
#include "net/doh_request.h"
#include "proto/dns_message.h"

namespace tunnel::net {

// What a server does with a question.
struct FakeAnswer {
  int status = 200;
  std::string content_type = "application/dns-message";
  std::vector<uint8_t> body;
  bool silent = false;  // no answer at all
  // HTTP/1.1: sent as it is instead of a response; the connection then ends.
  std::string raw;
  bool chunked = false;
  // HTTP/2 instead of, or before, the response:
  uint32_t reset = 0;             // RST_STREAM with this code, after the headers
  bool goaway = false;            // GOAWAY that has not seen the question
  size_t extra_headers = 0;       // header fields of 100 bytes
  size_t settings_flood = 0;      // SETTINGS frames
  bool interim = false;           // 103 first
  bool close_connection = false;  // afterwards
};

using FakeScript = std::function<FakeAnswer(const proto::DnsQuery& query)>;

// A response with `records` to `query`.
inline std::vector<uint8_t> Respond(const proto::DnsQuery& query, std::vector<proto::DnsRecord> records,
                                    proto::DnsRcode rcode = proto::DnsRcode::kNoError) {
  auto response = proto::BuildResponse(query, records, rcode);
  EXPECT_TRUE(response.ok()) << response.status();
  return *std::move(response);
}

inline proto::DnsRecord ARecord(std::string name, std::string_view address, uint32_t ttl_seconds = 60) {
  const proto::IpAddress ip = *proto::ParseIpAddress(address);
  return {.name = std::move(name),
          .type = ip.v6 ? proto::DnsType::kAaaa : proto::DnsType::kA,
          .ttl_seconds = ttl_seconds,
          .data = ip};
}

inline proto::DnsQuery QueryOfPath(std::string_view path) {
  bool too_long = false;
  const auto bytes = FindDnsParameter(path, too_long);
  EXPECT_TRUE(bytes.has_value()) << path;
  auto query = proto::ParseQuery(*bytes);
  EXPECT_TRUE(query.ok()) << query.status();
  return *std::move(query);
}

inline proto::DnsQuery QueryOfBody(std::string_view body) {
  const auto* data = reinterpret_cast<const uint8_t*>(body.data());
  auto query = proto::ParseQuery(std::span(data, body.size()));
  EXPECT_TRUE(query.ok()) << query.status();
  return *std::move(query);
}

// What a server does with a request: by its script, unless it takes the other method only.
inline FakeAnswer AnswerTo(const FakeScript& script, std::string_view only_method, std::string_view method,
                           std::string_view path, std::string_view body) {
  if (!only_method.empty() && method != only_method) return {.status = 405, .content_type = "text/plain"};
  return script(method == "POST" ? QueryOfBody(body) : QueryOfPath(path));
}

class FakeServer {
 public:
  virtual ~FakeServer() = default;
};

class FakeHttp1Server final : public FakeServer, ByteStream::Handler {
 public:
  FakeHttp1Server(core::Reactor& reactor, std::unique_ptr<MemoryStream> stream, FakeScript script,
                  std::string only_method)
      : reactor_(reactor),
        stream_(std::move(stream)),
        script_(std::move(script)),
        only_method_(std::move(only_method)) {
    stream_->SetHandler(this);
  }

 private:
  void OnData(core::Slice data) override {
    received_ += data.text();
    proto::RequestHead head;
    const proto::HeadResult parsed = proto::ParseRequestHead(received_, head);
    if (parsed.kind == proto::HeadResult::Kind::kNeedMore) return;
    ASSERT_EQ(parsed.kind, proto::HeadResult::Kind::kDone);
    const std::string_view body_text = std::string_view(received_).substr(parsed.head_bytes);
    if (head.method == "POST" && body_text.size() < head.framing.length) return;
    EXPECT_EQ(head.fields.Find("accept"), "application/dns-message");
    const bool post = head.method == "POST";
    EXPECT_TRUE(!post || head.fields.Find("content-type") == "application/dns-message");
    const FakeAnswer answer = AnswerTo(script_, only_method_, head.method, head.path, body_text);
    if (answer.silent) return;
    if (!answer.raw.empty()) {
      Send(answer.raw);
      stream_->CloseAfterSend(std::chrono::seconds(1));
      return;
    }
    std::string response = fmt::format("HTTP/1.1 {} Words\r\nContent-Type: {}\r\n", answer.status, answer.content_type);
    if (answer.interim) response.insert(0, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
    const std::string body(answer.body.begin(), answer.body.end());
    if (answer.chunked) {
      const size_t half = body.size() / 2;
      response += fmt::format("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n", half,
                              body.substr(0, half), body.size() - half, body.substr(half));
    } else {
      response += fmt::format("Content-Length: {}\r\n\r\n{}", body.size(), body);
    }
    Send(response);
  }
  void OnEnd() override { stream_->CloseAfterSend(std::chrono::seconds(1)); }
  void OnDrained() override {}
  void OnDead(absl::Status /*reason*/) override {}
  void Send(std::string_view text) {
    for (; !text.empty(); text.remove_prefix(std::min<size_t>(text.size(), 16384))) {
      stream_->Send(reactor_.buffers().Copy(text.substr(0, 16384)));
    }
  }

  core::Reactor& reactor_;
  std::unique_ptr<MemoryStream> stream_;
  FakeScript script_;
  const std::string only_method_;
  std::string received_;
};

class FakeHttp2Server final : public FakeServer, ByteStream::Handler {
 public:
  FakeHttp2Server(core::Reactor& reactor, std::unique_ptr<MemoryStream> stream, FakeScript script,
                  std::string only_method)
      : reactor_(reactor),
        stream_(std::move(stream)),
        script_(std::move(script)),
        only_method_(std::move(only_method)) {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                      const uint8_t* value, size_t value_size, uint8_t, void* user) {
          const std::string_view key(reinterpret_cast<const char*>(name), name_size);
          const std::string text(reinterpret_cast<const char*>(value), value_size);
          auto& self = *static_cast<FakeHttp2Server*>(user);
          Request& request = self.requests_[frame->hd.stream_id];
          if (key == ":path") request.path = text;
          if (key == ":method") request.method = text;
          if (key == "content-type") request.content_type = text;
          return 0;
        });
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
        callbacks, [](nghttp2_session*, uint8_t, int32_t id, const uint8_t* data, size_t size, void* user) {
          auto& self = *static_cast<FakeHttp2Server*>(user);
          self.requests_[id].body.append(reinterpret_cast<const char*>(data), size);
          return 0;
        });
    nghttp2_session_callbacks_set_on_frame_recv_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, void* user) {
          auto& self = *static_cast<FakeHttp2Server*>(user);
          const bool request = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
          const bool ends = request && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
          if (ends) self.OnRequest(frame->hd.stream_id);
          if (frame->hd.type == NGHTTP2_GOAWAY) self.saw_goaway_ = true;
          return 0;
        });
    nghttp2_session_server_new(&session_, callbacks, this);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, nullptr, 0);
    stream_->SetHandler(this);
    Flush();
  }
  ~FakeHttp2Server() override { nghttp2_session_del(session_); }
  [[nodiscard]] bool saw_goaway() const { return saw_goaway_; }
  [[nodiscard]] bool saw_end() const { return saw_end_; }

 private:
  struct Body {
    std::vector<uint8_t> bytes;
    size_t sent = 0;
  };
  static nghttp2_nv Field(std::string& name, std::string& value) {
    return {reinterpret_cast<uint8_t*>(name.data()), reinterpret_cast<uint8_t*>(value.data()), name.size(),
            value.size(), NGHTTP2_NV_FLAG_NONE};
  }
  void SubmitHeaders(int32_t id, std::vector<std::pair<std::string, std::string>> fields, bool interim, Body* body) {
    std::vector<nghttp2_nv> block;
    block.reserve(fields.size());
    for (auto& [name, value] : fields) block.push_back(Field(name, value));
    if (interim) {
      nghttp2_submit_headers(session_, NGHTTP2_FLAG_NONE, id, nullptr, block.data(), block.size(), nullptr);
      return;
    }
    nghttp2_data_provider provider = {};
    provider.source.ptr = body;
    provider.read_callback = [](nghttp2_session*, int32_t, uint8_t* out, size_t room, uint32_t* flags,
                                nghttp2_data_source* source, void*) {
      auto& from = *static_cast<Body*>(source->ptr);
      const size_t size = std::min(room, from.bytes.size() - from.sent);
      std::copy_n(from.bytes.begin() + static_cast<ptrdiff_t>(from.sent), size, out);
      from.sent += size;
      if (from.sent == from.bytes.size()) *flags |= NGHTTP2_DATA_FLAG_EOF;
      return static_cast<ssize_t>(size);
    };
    nghttp2_submit_response(session_, id, block.data(), block.size(), &provider);
  }
  void OnRequest(int32_t id) {
    const Request& request = requests_[id];
    EXPECT_TRUE(request.method != "POST" || request.content_type == "application/dns-message");
    const FakeAnswer answer = AnswerTo(script_, only_method_, request.method, request.path, request.body);
    if (answer.goaway) {
      nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, 0, NGHTTP2_NO_ERROR, nullptr, 0);
      return;
    }
    close_ = answer.close_connection;
    for (size_t i = 0; i < answer.settings_flood; ++i) raw_ += std::string("\0\0\0\4\0\0\0\0\0", 9);
    if (answer.silent) return;
    if (answer.interim) SubmitHeaders(id, {{":status", "103"}, {"link", "</x>"}}, true, nullptr);
    std::vector<std::pair<std::string, std::string>> fields = {{":status", std::to_string(answer.status)},
                                                               {"content-type", answer.content_type}};
    for (size_t i = 0; i < answer.extra_headers; ++i)
      fields.emplace_back(fmt::format("x-{}", i), std::string(100, 'x'));
    bodies_.push_back(std::make_unique<Body>(Body{.bytes = answer.body}));
    SubmitHeaders(id, std::move(fields), false, bodies_.back().get());
    if (answer.reset != 0) nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, answer.reset);
  }
  void Flush() {
    std::string out;
    const uint8_t* data = nullptr;
    ssize_t size = 0;
    while ((size = nghttp2_session_mem_send(session_, &data)) > 0) {
      out.append(reinterpret_cast<const char*>(data), static_cast<size_t>(size));
    }
    out += std::exchange(raw_, {});
    for (std::string_view rest = out; !rest.empty(); rest.remove_prefix(std::min<size_t>(rest.size(), 16384))) {
      stream_->Send(reactor_.buffers().Copy(rest.substr(0, 16384)));
    }
    if (close_) stream_->CloseAfterSend(std::chrono::seconds(1));
  }
  void OnData(core::Slice data) override {
    nghttp2_session_mem_recv(session_, data.data(), data.size());
    Flush();
  }
  void OnEnd() override { saw_end_ = true; }
  void OnDrained() override {}
  void OnDead(absl::Status /*reason*/) override {}

  core::Reactor& reactor_;
  std::unique_ptr<MemoryStream> stream_;
  FakeScript script_;
  nghttp2_session* session_ = nullptr;
  struct Request {
    std::string method;
    std::string path;
    std::string content_type;
    std::string body;
  };
  const std::string only_method_;
  std::map<int32_t, Request> requests_;
  std::vector<std::unique_ptr<Body>> bodies_;
  std::string raw_;
  bool close_ = false;
  bool saw_goaway_ = false;
  bool saw_end_ = false;
};

// A resolver by its host name. `failure`: it cannot be connected to.
struct FakeDohHost {
  std::string alpn = "h2";
  FakeScript script;
  absl::Status failure;
  bool never_connects = false;
  std::string only_method = {};  // GET or POST; the other is answered 405
};

class FakeDohConnector final : public DohConnector {
 public:
  explicit FakeDohConnector(core::Reactor& reactor) : reactor_(reactor) {}
  std::map<std::string, FakeDohHost> resolvers;
  std::map<std::string, int> connections;
  std::vector<std::unique_ptr<FakeServer>> servers;
  size_t piece = SIZE_MAX;  // bytes delivered at once

  core::Task<absl::StatusOr<DohConnection>> Connect(std::string host, uint16_t port) override {
    ++connections[host];
    last_port = port;
    FakeDohHost& resolver = resolvers.at(host);
    const absl::Status waited = co_await core::Sleep(std::chrono::milliseconds(resolver.never_connects ? 3600000 : 1));
    if (!waited.ok()) co_return waited;
    if (!resolver.failure.ok()) co_return resolver.failure;
    auto [client, server] = MemoryStream::Pair(reactor_, piece);
    if (resolver.alpn == "h2") {
      servers.push_back(
          std::make_unique<FakeHttp2Server>(reactor_, std::move(server), resolver.script, resolver.only_method));
    } else {
      servers.push_back(
          std::make_unique<FakeHttp1Server>(reactor_, std::move(server), resolver.script, resolver.only_method));
    }
    co_return DohConnection{.stream = std::move(client), .alpn = resolver.alpn};
  }
  uint16_t last_port = 0;

 private:
  core::Reactor& reactor_;
};

}  // namespace tunnel::net
