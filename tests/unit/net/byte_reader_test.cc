#include "net/byte_reader.h"

#include <gtest/gtest.h>

#include <string>

#include "manual_backend.h"
#include "memory_stream.h"
#include "net/http_reader.h"
#include "run_task.h"
#include "stream_recorder.h"

namespace tunnel::net {
namespace {

using core::Slice;

class ByteReaderTest : public ManualReactorTest {
 protected:
  void Make(size_t piece = SIZE_MAX) { std::tie(near_, far_) = MemoryStream::Pair(reactor(), piece); }
  void Say(std::string_view text) { far_->Send(Bytes(text)); }

  absl::StatusOr<std::string> Read(ByteReader& reader) {
    auto data = RunTask(reactor(), reader.Read());
    if (!data.ok()) return data.status();
    return std::string(data->text());
  }

  std::unique_ptr<MemoryStream> near_;
  std::unique_ptr<MemoryStream> far_;
};

// A stream whose end the test decides.
class ScriptedStream final : public ByteStream {
 public:
  void SetHandler(Handler* handler) override { handler_ = handler; }
  void PauseReceive() override { ++pauses; }
  void ResumeReceive() override {}
  void Send(Slice /*data*/) override {}
  [[nodiscard]] bool writable() const override { return room; }
  [[nodiscard]] size_t queued_bytes() const override { return 0; }
  void FinishSend() override {}
  void CloseAfterSend(core::Duration /*limit*/) override {}
  void Abort() override {}
  [[nodiscard]] std::string peer() const override { return "script"; }

  [[nodiscard]] Handler* handler() const { return handler_; }
  int pauses = 0;
  bool room = true;

 private:
  Handler* handler_ = nullptr;
};

TEST_F(ByteReaderTest, ReadsInOrderThenTheEnd) {
  Make();
  ByteReader reader(*near_);
  Say("one");
  Say("two");
  far_->FinishSend();
  EXPECT_EQ(*Read(reader), "one");
  EXPECT_EQ(*Read(reader), "two");
  EXPECT_EQ(*Read(reader), "");
  EXPECT_TRUE(reader.ended());
  EXPECT_EQ(*Read(reader), "") << "the end stays";
}

TEST_F(ByteReaderTest, ReadsOneSliceAheadAndNoFurther) {
  Make();
  ByteReader reader(*near_);
  Say("one");
  Say("two");
  Say("three");
  Settle();
  EXPECT_EQ(far_->queued_bytes(), 8U) << "all but one slice are still with the stream";
  auto taken = reader.TakeReceived();
  ASSERT_EQ(taken.size(), 1U);
  EXPECT_EQ(taken[0].text(), "one");
}

TEST_F(ByteReaderTest, ReadsWhatWasPutBackFirst) {
  Make();
  ByteReader reader(*near_);
  Say("headbody");
  auto data = RunTask(reactor(), reader.Read());
  ASSERT_TRUE(data.ok());
  data->RemovePrefix(4);
  reader.Unread(*std::move(data));
  reader.Unread(Slice());
  Say("more");
  EXPECT_EQ(*Read(reader), "body");
  EXPECT_EQ(*Read(reader), "more");
}

TEST_F(ByteReaderTest, HandsTheStreamOnWithWhatIsInIt) {
  Make();
  StreamRecorder next;
  {
    ByteReader reader(*near_);
    Say("first");
    Say("second");
    EXPECT_EQ(*Read(reader), "first");
    Say("third");
    Settle();
    reader.Detach();
    EXPECT_TRUE(reader.ended() == false && reader.dead().ok());
  }
  Settle();
  near_->SetHandler(&next);
  near_->ResumeReceive();
  Settle();
  EXPECT_EQ(next.received, "secondthird");
}

TEST_F(ByteReaderTest, SaysWhyTheStreamDied) {
  Make();
  ByteReader reader(*near_);
  far_->Abort();
  const auto read = Read(reader);
  EXPECT_TRUE(absl::IsUnavailable(read.status())) << read.status();
  EXPECT_EQ(reader.dead(), read.status());
  EXPECT_EQ(Read(reader).status(), read.status()) << "the death stays";
}

// A stream of the tunnel has no half-close: its orderly end is OnDead(Ok).
TEST_F(ByteReaderTest, TakesAnOrderlyDeathForTheEnd) {
  ScriptedStream stream;
  ByteReader reader(stream);
  stream.handler()->OnData(Bytes("last"));
  stream.handler()->OnDead(absl::OkStatus());
  EXPECT_EQ(*Read(reader), "last");
  EXPECT_EQ(*Read(reader), "");
  EXPECT_TRUE(reader.ended());
}

TEST_F(ByteReaderTest, EndsItsWaitWhenTheTaskIsInterrupted) {
  Make();
  ByteReader reader(*near_);
  std::optional<absl::StatusOr<Slice>> result;
  core::Scope scope(reactor());
  scope.Spawn(StoreResult(reader.Read(), &result));
  Settle();
  EXPECT_FALSE(result.has_value());
  scope.Cancel();
  Settle();
  ASSERT_TRUE(result.has_value());
  EXPECT_TRUE(absl::IsCancelled(result->status()));
}

TEST_F(ByteReaderTest, WaitsForRoomOrDeath) {
  ScriptedStream stream;
  ByteReader reader(stream);
  EXPECT_TRUE(RunTask(reactor(), reader.Drained()).ok()) << "there is room";
  for (const bool dies : {false, true}) {
    stream.room = false;
    std::optional<absl::Status> result;
    core::Scope scope(reactor());
    scope.Spawn(StoreResult(reader.Drained(), &result));
    Settle();
    EXPECT_FALSE(result.has_value());
    if (dies) {
      stream.handler()->OnDead(Unavailable("reset"));
    } else {
      stream.room = true;
      stream.handler()->OnDrained();
    }
    Settle();
    ASSERT_TRUE(result.has_value());
    EXPECT_EQ(result->ok(), !dies);
  }
}

// --- HTTP heads over it ---

class HttpReaderTest : public ByteReaderTest, public testing::WithParamInterface<size_t> {};

INSTANTIATE_TEST_SUITE_P(Pieces, HttpReaderTest, testing::Values(1, 7, SIZE_MAX));

TEST_P(HttpReaderTest, ReadsRequestsAndBodiesOneAfterAnother) {
  Make(GetParam());
  ByteReader reader(*near_);
  HttpReader http(reader);
  Say("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\nHost: y\r\n\r\nwhat follows");
  proto::RequestHead head;
  ASSERT_TRUE(RunTask(reactor(), http.ReadRequest(head)));
  EXPECT_EQ(head.target, "/a");
  EXPECT_EQ(head.framing.length, 5U);
  const auto body = RunTask(reactor(), http.ReadBody(5));
  ASSERT_TRUE(body.ok());
  EXPECT_EQ(*body, "hello");
  ASSERT_TRUE(RunTask(reactor(), http.ReadRequest(head)));
  EXPECT_EQ(head.target, "/b");
  EXPECT_EQ(head.host, "y");
  // What came behind the head is the next protocol's: here or still in the stream.
  std::string rest = http.TakeRest();
  while (rest.size() < 12) {
    const auto more = Read(reader);
    ASSERT_TRUE(more.ok() && !more->empty());
    rest += *more;
  }
  EXPECT_EQ(rest, "what follows");
  EXPECT_EQ(http.TakeRest(), "");
}

TEST_P(HttpReaderTest, SaysWithWhichStatusToAnswer) {
  struct Case {
    const char* request;
    int status;
  };
  for (const Case& c :
       {Case{"GET / HTTP/1.1\r\n\r\n", 400}, Case{"GET / HTTP/3.1\r\nHost: x\r\n\r\n", 505},
        Case{"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400}, Case{"\x16\x03\x01\x02\x01garbage\r\n\r\n", 400}}) {
    Make(GetParam());
    ByteReader reader(*near_);
    HttpReader http(reader);
    Say(c.request);
    proto::RequestHead head;
    EXPECT_FALSE(RunTask(reactor(), http.ReadRequest(head)));
    EXPECT_EQ(http.error().status, c.status) << c.request;
    EXPECT_FALSE(http.error().reason.empty());
  }
}

TEST_P(HttpReaderTest, HasNobodyToAnswerWhenTheStreamEndsOrDies) {
  for (const bool dies : {false, true}) {
    Make(GetParam());
    ByteReader reader(*near_);
    HttpReader http(reader);
    Say("GET / HTTP/1.1\r\nHos");
    Settle();
    proto::RequestHead head;
    if (dies) {
      far_->Abort();
    } else {
      far_->FinishSend();
    }
    EXPECT_FALSE(RunTask(reactor(), http.ReadRequest(head)));
    EXPECT_EQ(http.error().status, 0);
    EXPECT_FALSE(http.error().reason.empty());
  }
}

TEST_P(HttpReaderTest, ReadsAResponse) {
  Make(GetParam());
  ByteReader reader(*near_);
  HttpReader http(reader);
  Say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n");
  proto::ResponseHead head;
  ASSERT_TRUE(RunTask(reactor(), http.ReadResponse("GET", head)).ok());
  EXPECT_EQ(head.status, 101);
  Say("SSH-2.0-OpenSSH_9.2\r\n\r\n");
  EXPECT_FALSE(RunTask(reactor(), http.ReadResponse("GET", head)).ok());
}

TEST_P(HttpReaderTest, FailsABodyThatIsCutShort) {
  Make(GetParam());
  ByteReader reader(*near_);
  HttpReader http(reader);
  Say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfour");
  far_->FinishSend();
  proto::ResponseHead head;
  ASSERT_TRUE(RunTask(reactor(), http.ReadResponse("GET", head)).ok());
  EXPECT_TRUE(absl::IsUnavailable(RunTask(reactor(), http.ReadBody(9)).status()));
}

}  // namespace
}  // namespace tunnel::net
