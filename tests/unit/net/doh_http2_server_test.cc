#include "net/doh_http2_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nghttp2/nghttp2.h>

#include <map>

#include "memory_stream.h"
#include "run_task.h"

namespace tunnel::net {
namespace {

struct ClientAnswer {
  std::map<std::string, std::string> fields;
  std::string body;
  bool closed = false;
  uint32_t error = 0;
};

// nghttp2's client on the other end, and raw bytes where it would refuse to send what a test wants sent.
class Http2Client final : public ByteStream::Handler {
 public:
  Http2Client(core::Reactor& reactor, std::unique_ptr<MemoryStream> stream)
      : reactor_(reactor), stream_(std::move(stream)) {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                      const uint8_t* value, size_t value_size, uint8_t, void* user) {
          static_cast<Http2Client*>(user)->answers[frame->hd.stream_id].fields.emplace(
              std::string(reinterpret_cast<const char*>(name), name_size),
              std::string(reinterpret_cast<const char*>(value), value_size));
          return 0;
        });
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
        callbacks, [](nghttp2_session*, uint8_t, int32_t id, const uint8_t* data, size_t size, void* user) {
          static_cast<Http2Client*>(user)->answers[id].body.append(reinterpret_cast<const char*>(data), size);
          return 0;
        });
    nghttp2_session_callbacks_set_on_stream_close_callback(
        callbacks, [](nghttp2_session*, int32_t id, uint32_t error, void* user) {
          ClientAnswer& answer = static_cast<Http2Client*>(user)->answers[id];
          answer.closed = true;
          answer.error = error;
          return 0;
        });
    nghttp2_session_callbacks_set_on_frame_recv_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, void* user) {
          if (frame->hd.type == NGHTTP2_GOAWAY) static_cast<Http2Client*>(user)->goaway = frame->goaway.error_code;
          return 0;
        });
    nghttp2_session_client_new(&session_, callbacks, this);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, nullptr, 0);
    stream_->SetHandler(this);
    Flush();
  }
  ~Http2Client() { nghttp2_session_del(session_); }

  int32_t Ask(const std::string& method, const std::string& path,
              std::vector<std::pair<std::string, std::string>> extra = {}, std::string body = "") {
    std::vector<std::pair<std::string, std::string>> fields = {
        {":method", method}, {":scheme", "https"}, {":authority", "x"}, {":path", path}};
    fields.insert(fields.end(), extra.begin(), extra.end());
    std::vector<nghttp2_nv> block;
    for (auto& [name, value] : fields) {
      block.push_back({reinterpret_cast<uint8_t*>(name.data()), reinterpret_cast<uint8_t*>(value.data()), name.size(),
                       value.size(), NGHTTP2_NV_FLAG_NONE});
    }
    bodies_.push_back(std::make_unique<std::string>(std::move(body)));
    nghttp2_data_provider provider = {};
    provider.source.ptr = bodies_.back().get();
    provider.read_callback = [](nghttp2_session*, int32_t, uint8_t* out, size_t room, uint32_t* flags,
                                nghttp2_data_source* source, void*) {
      auto& rest = *static_cast<std::string*>(source->ptr);
      const size_t size = std::min(room, rest.size());
      std::copy_n(rest.begin(), size, out);
      rest.erase(0, size);
      if (rest.empty()) *flags |= NGHTTP2_DATA_FLAG_EOF;
      return static_cast<ssize_t>(size);
    };
    const int32_t id = nghttp2_submit_request(session_, nullptr, block.data(), block.size(),
                                              bodies_.back()->empty() ? nullptr : &provider, nullptr);
    Flush();
    return id;
  }
  void Reset(int32_t id) {
    nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
    Flush();
  }
  void Raw(std::string_view bytes) {
    for (; !bytes.empty(); bytes.remove_prefix(std::min<size_t>(bytes.size(), 16384))) {
      stream_->Send(reactor_.buffers().Copy(bytes.substr(0, 16384)));
    }
  }

  std::map<int32_t, ClientAnswer> answers;
  std::optional<uint32_t> goaway;
  bool ended = false;

 private:
  void Flush() {
    const uint8_t* data = nullptr;
    ssize_t size = 0;
    while ((size = nghttp2_session_mem_send(session_, &data)) > 0) {
      Raw({reinterpret_cast<const char*>(data), static_cast<size_t>(size)});
    }
  }
  void OnData(core::Slice data) override {
    nghttp2_session_mem_recv(session_, data.data(), data.size());
    Flush();
  }
  void OnEnd() override { ended = true; }
  void OnDrained() override {}
  void OnDead(absl::Status /*reason*/) override { ended = true; }

  core::Reactor& reactor_;
  std::unique_ptr<MemoryStream> stream_;
  nghttp2_session* session_ = nullptr;
  std::vector<std::unique_ptr<std::string>> bodies_;
};

class DohHttp2ServerTest : public testing::Test {
 protected:
  DohHttp2ServerTest() {
    auto [ours, theirs] = MemoryStream::Pair(*reactor_);
    stream_ = std::move(ours);
    client_ = std::make_unique<Http2Client>(*reactor_, std::move(theirs));
    scope_.Spawn(Run());
  }
  ~DohHttp2ServerTest() override {
    scope_.Cancel();
    EXPECT_TRUE(TurnUntil(*reactor_, [this] { return scope_.empty(); }));
  }
  core::Task<void> Run() {
    DohHttp2Server server(*reactor_, *stream_, [this](const Http2Request& request) {
      seen_.push_back(request);
      return reply_;
    });
    const bool open = co_await server.Serve();
    if (open) stream_->CloseAfterSend(std::chrono::seconds(1));
  }
  const ClientAnswer& Wait(int32_t id) {
    EXPECT_TRUE(TurnUntil(*reactor_, [&] { return client_->answers[id].closed; }));
    return client_->answers[id];
  }
  void ExpectCutOff() {
    EXPECT_TRUE(TurnUntil(*reactor_, [&] { return client_->ended; }));
    EXPECT_TRUE(scope_.empty());
  }

  std::unique_ptr<core::Reactor> reactor_ = MakeTestReactor();
  std::unique_ptr<MemoryStream> stream_;
  std::unique_ptr<Http2Client> client_;
  DohReply reply_{.body = {'a', 'n', 's'}};
  std::vector<Http2Request> seen_;
  core::Scope scope_{*reactor_};
};

TEST_F(DohHttp2ServerTest, AnswersGetPostAndHead) {
  const ClientAnswer get = Wait(client_->Ask("GET", "/dns-query?dns=AAAA"));
  EXPECT_EQ(get.body, "ans");
  EXPECT_EQ(get.fields.at(":status"), "200");
  EXPECT_EQ(get.fields.at("content-type"), "application/dns-message");
  EXPECT_EQ(get.fields.at("cache-control"), "max-age=300");
  EXPECT_EQ(get.fields.at("content-length"), "3");
  const ClientAnswer post =
      Wait(client_->Ask("POST", "/dns-query", {{"content-type", "application/dns-message"}}, "question"));
  EXPECT_EQ(post.body, "ans");
  const ClientAnswer head = Wait(client_->Ask("HEAD", "/dns-query?dns=AAAA"));
  EXPECT_EQ(head.body, "");
  EXPECT_EQ(head.fields.at("content-length"), "3");
  ASSERT_EQ(seen_.size(), 3U);
  EXPECT_EQ(seen_[0].path, "/dns-query?dns=AAAA");
  EXPECT_EQ(seen_[1].method, "POST");
  EXPECT_EQ(seen_[1].content_type, "application/dns-message");
  EXPECT_EQ(seen_[1].body, "question");
}

TEST_F(DohHttp2ServerTest, SaysWhenToAskAgain) {
  reply_ = {.status = 429, .retry_after_seconds = 7};
  const ClientAnswer answer = Wait(client_->Ask("GET", "/dns-query?dns=AAAA"));
  EXPECT_EQ(answer.fields.at(":status"), "429");
  EXPECT_EQ(answer.fields.at("retry-after"), "7");
}

TEST_F(DohHttp2ServerTest, KeepsNoBodyThatIsTooLong) {
  (void)Wait(client_->Ask("POST", "/dns-query", {}, std::string(kMaxDohQueryBytes, 'x')));
  (void)Wait(client_->Ask("POST", "/dns-query", {}, std::string(kMaxDohQueryBytes + 1, 'x')));
  ASSERT_EQ(seen_.size(), 2U);
  EXPECT_FALSE(seen_[0].too_long);
  EXPECT_TRUE(seen_[1].too_long);
  EXPECT_EQ(seen_[1].body, "");
}

TEST_F(DohHttp2ServerTest, ResetsARequestWithTooManyFields) {
  std::vector<std::pair<std::string, std::string>> fields;
  for (int i = 0; i < 200; ++i) fields.emplace_back(fmt::format("x-{}", i), std::string(100, 'x'));
  EXPECT_NE(Wait(client_->Ask("GET", "/", fields)).error, 0U);
  EXPECT_TRUE(seen_.empty());
  EXPECT_EQ(Wait(client_->Ask("GET", "/")).body, "ans");
}

TEST_F(DohHttp2ServerTest, AConnectionHasSoManyRequestsResetOnesIncluded) {
  for (size_t i = 0; i < DohHttp2Server::kRequests + 100 && !client_->ended; ++i) {
    client_->Reset(client_->Ask("GET", "/dns-query?dns=AAAA"));
    (void)reactor_->Turn(reactor_->backend().Now());
  }
  ExpectCutOff();
  EXPECT_LE(seen_.size(), DohHttp2Server::kRequests);
  EXPECT_EQ(client_->goaway, static_cast<uint32_t>(NGHTTP2_ENHANCE_YOUR_CALM));
}

TEST_F(DohHttp2ServerTest, CutsOffEndlessContinuation) {
  EXPECT_EQ(Wait(client_->Ask("GET", "/")).body, "ans");
  std::string flood("\0\0\0\1\0\0\0\0\x9", 9);
  while (flood.size() < size_t{1} << 20) flood += std::string("\0\0\0\x9\0\0\0\0\x9", 9);
  client_->Raw(flood);
  ExpectCutOff();
}

class DohHttp2FloodTest : public DohHttp2ServerTest, public testing::WithParamInterface<std::string> {};

TEST_P(DohHttp2FloodTest, IsCutOff) {
  EXPECT_EQ(Wait(client_->Ask("GET", "/")).body, "ans");
  std::string flood;
  while (flood.size() < size_t{1} << 20) flood += GetParam();
  client_->Raw(flood);
  ExpectCutOff();
}

INSTANTIATE_TEST_SUITE_P(Frames, DohHttp2FloodTest,
                         testing::Values(std::string("\0\0\0\4\0\0\0\0\0", 9),              // SETTINGS
                                         std::string("\0\0\x8\6\0\0\0\0\0AAAAAAAA", 17),    // PING
                                         std::string("\0\0\4\x8\0\0\0\0\0\0\0\0\1", 13),    // WINDOW_UPDATE
                                         std::string("\0\0\5\2\0\0\0\0\x9\0\0\0\0\1", 14),  // PRIORITY
                                         std::string("\0\0\0\xfa\0\0\0\0\0", 9),            // of a type nobody knows
                                         std::string("GET / HTTP/1.1\r\n\r\n")),
                         [](const auto& flood) { return fmt::format("Flood{}", flood.index); });

}  // namespace
}  // namespace tunnel::net
