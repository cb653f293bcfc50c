// A udp:// listener between senders of plain sockets and associations that do as the test says.
#include "net/udp_forward.h"

#include <gtest/gtest.h>

#include <deque>

#include "datagram_peers.h"
#include "net/direct_datagrams.h"

namespace tunnel::net {
namespace {

using core::SocketAddress;
using proto::Target;

// An application: a socket, and what came to it.
class ForwardSender final : core::DatagramSocket::Handler {
 public:
  explicit ForwardSender(core::Reactor& reactor, std::string_view ip = "127.0.0.1") : reactor_(reactor) {
    auto opened = core::DatagramSocket::Open(reactor, *SocketAddress::Parse(ip, 0));
    EXPECT_TRUE(opened.ok());
    socket_ = *std::move(opened);
    socket_.Start(*this);
  }
  void SendTo(const SocketAddress& to, std::string_view text) { socket_.SendTo(to, reactor_.buffers().Copy(text)); }

  std::vector<std::string> received;
  std::vector<SocketAddress> sources;

 private:
  void OnDatagram(const SocketAddress& from, core::Slice data) override {
    received.emplace_back(data.text());
    sources.push_back(from);
  }
  void OnSocketError(core::IoError error) override { ADD_FAILURE() << core::ToString(error); }

  core::Reactor& reactor_;
  core::DatagramSocket socket_;
};

// Opens associations that only remember what is sent.
class RememberingOpener final : public DatagramOpener {
 public:
  class Association final : public DatagramAssociation {
   public:
    Association(RememberingOpener& opener, Handler& owner, size_t number)
        : handler(owner), opener_(opener), number_(number) {}
    ~Association() override { opener_.ended.push_back(number_); }
    void Send(const Target& to, core::Slice payload) override {
      opener_.sent.push_back(fmt::format("{} {} {}", number_, proto::ToString(to), std::string(payload.text())));
    }
    void Prepare(const Target& target) override { (void)target; }

    Handler& handler;

   private:
    RememberingOpener& opener_;
    const size_t number_;
  };

  absl::StatusOr<std::unique_ptr<DatagramAssociation>> Open(DatagramAssociation::Handler& handler,
                                                            SenderFilter filter) override {
    EXPECT_EQ(filter, SenderFilter::kTargetsOnly);
    if (refuse) return ResourceExhausted("too many");
    auto association = std::make_unique<Association>(*this, handler, ++opened);
    latest = association.get();
    return association;
  }

  bool refuse = false;
  size_t opened = 0;
  Association* latest = nullptr;
  std::vector<size_t> ended;
  std::vector<std::string> sent;
};

class UdpForwardTest : public testing::Test {
 protected:
  UdpForward& Listen(DatagramOpener& opener, const Target& target, const UdpForward::Bounds& bounds = {},
                     std::string_view ip = "127.0.0.1") {
    forward_.emplace(*reactor_, opener, target, "udp://test", bounds);
    const absl::Status opened = forward_->Open(*SocketAddress::Parse(ip, 0));
    EXPECT_TRUE(opened.ok()) << opened;
    address_ = forward_->local_address();
    return *forward_;
  }
  UdpForward& Remember(const UdpForward::Bounds& bounds = {}) {
    return Listen(opener_, {.host = "dns.example", .port = 53}, bounds);
  }
  bool Until(const std::function<bool()>& done) { return TurnUntil(*reactor_, done); }
  [[nodiscard]] const core::Counters& counters() const { return reactor_->counters(); }

  std::unique_ptr<core::Reactor> reactor_ = MakeTestReactor();
  RememberingOpener opener_;
  std::optional<UdpForward> forward_;
  SocketAddress address_;
};

TEST_F(UdpForwardTest, EverySenderGetsItsOwnAnswers) {
  FakeResolver resolver;
  core::Scope scope(*reactor_);
  const TargetPolicy policy(AllowAll(), {});
  DirectDatagrams way_out(*reactor_, resolver, policy, scope);
  EchoTarget echo(*reactor_);
  for (const char* const ip : {"127.0.0.1", "::1"}) {
    UdpForward& forward = Listen(way_out, echo.target(), {}, ip);
    ForwardSender one(*reactor_, ip);
    ForwardSender two(*reactor_, ip);
    one.SendTo(address_, "a");
    two.SendTo(address_, "");
    one.SendTo(address_, "b");
    ASSERT_TRUE(Until([&] { return one.received.size() == 2 && two.received.size() == 1; }));
    EXPECT_EQ(one.received, (std::vector<std::string>{"echo:a", "echo:b"}));
    EXPECT_EQ(two.received, (std::vector<std::string>{"echo:"}));
    EXPECT_EQ(one.sources[0], address_) << "answers come from the address that was asked";
    EXPECT_EQ(forward.senders(), 2U);
    EXPECT_EQ(counters().associations_open.Get(), 4);  // and as many of DirectDatagrams
    forward_.reset();
    ASSERT_TRUE(Until([&] { return counters().associations_open.Get() == 0; }));
  }
  scope.Cancel();
  EXPECT_TRUE(Until([&] { return scope.empty(); }));
}

TEST_F(UdpForwardTest, NamesGoToTheOpenerAsTheyAre) {
  Remember();
  ForwardSender sender(*reactor_);
  sender.SendTo(address_, "query");
  ASSERT_TRUE(Until([&] { return !opener_.sent.empty(); }));
  EXPECT_EQ(opener_.sent[0], "1 dns.example:53 query");
}

TEST_F(UdpForwardTest, WhoWasSilentLongestMakesRoom) {
  Remember({.senders = 2});
  ForwardSender one(*reactor_);
  ForwardSender two(*reactor_);
  ForwardSender three(*reactor_);
  size_t expected = 0;
  for (ForwardSender* const sender : {&one, &two, &one, &three, &one, &two}) {
    sender->SendTo(address_, "x");
    ++expected;
    ASSERT_TRUE(Until([&] { return opener_.sent.size() == expected; }));
    EXPECT_LE(forward_->senders(), 2U);
  }
  // `one` kept its association all along; `two` made room for `three`, and `three` for `two`.
  EXPECT_EQ(opener_.sent, (std::vector<std::string>{"1 dns.example:53 x", "2 dns.example:53 x", "1 dns.example:53 x",
                                                    "3 dns.example:53 x", "1 dns.example:53 x", "4 dns.example:53 x"}));
  EXPECT_EQ(opener_.ended, (std::vector<size_t>{2, 3}));
  EXPECT_EQ(counters().senders_evicted.Get(), 2);
  EXPECT_EQ(counters().associations_open.Get(), 2);
}

TEST_F(UdpForwardTest, AnswersCountAsUse) {
  Remember({.senders = 2});
  ForwardSender one(*reactor_);
  ForwardSender two(*reactor_);
  ForwardSender three(*reactor_);
  one.SendTo(address_, "x");
  ASSERT_TRUE(Until([&] { return opener_.sent.size() == 1; }));
  RememberingOpener::Association& first = *opener_.latest;
  two.SendTo(address_, "x");
  ASSERT_TRUE(Until([&] { return opener_.sent.size() == 2; }));
  first.handler.OnDatagram({.host = "192.0.2.1", .port = 53}, reactor_->buffers().Copy(std::string_view("answer")));
  three.SendTo(address_, "x");
  ASSERT_TRUE(Until([&] { return opener_.sent.size() == 3 && one.received.size() == 1; }));
  EXPECT_EQ(one.received[0], "answer");
  EXPECT_EQ(opener_.ended, (std::vector<size_t>{2}));
}

TEST_F(UdpForwardTest, ManyStrangersTakeNoMoreThanTheirRoom) {
  constexpr size_t kRoom = 16;
  Remember({.senders = kRoom});
  std::deque<ForwardSender> senders;
  for (size_t i = 0; i < 20 * kRoom; ++i) {
    senders.emplace_back(*reactor_).SendTo(address_, "x");
    ASSERT_TRUE(Until([&] { return opener_.sent.size() == i + 1; }));
    ASSERT_EQ(forward_->senders(), std::min(i + 1, kRoom));
  }
  EXPECT_EQ(counters().associations_open.Get(), int64_t{kRoom});
  EXPECT_EQ(counters().senders_evicted.Get(), int64_t{19 * kRoom});
}

TEST_F(UdpForwardTest, IdleSendersAreForgotten) {
  Remember({.idle_limit = std::chrono::milliseconds(30)});
  ForwardSender one(*reactor_);
  ForwardSender two(*reactor_);
  one.SendTo(address_, "x");
  two.SendTo(address_, "x");
  ASSERT_TRUE(Until([&] { return opener_.sent.size() == 2; }));
  ASSERT_TRUE(Until([&] { return forward_->senders() == 0; }));
  EXPECT_EQ(opener_.ended.size(), 2U);
  EXPECT_EQ(counters().senders_evicted.Get(), 0);
  EXPECT_EQ(reactor_->timers().armed(), 0U);
  one.SendTo(address_, "y");
  ASSERT_TRUE(Until([&] { return opener_.sent.size() == 3; }));
  EXPECT_EQ(opener_.sent[2], "3 dns.example:53 y");
}

TEST_F(UdpForwardTest, StrangersAreRefusedWhileStopping) {
  Remember();
  ForwardSender known(*reactor_);
  ForwardSender stranger(*reactor_);
  known.SendTo(address_, "before");
  ASSERT_TRUE(Until([&] { return opener_.sent.size() == 1; }));
  forward_->StopAdmitting();
  stranger.SendTo(address_, "stranger");
  known.SendTo(address_, "after");
  ASSERT_TRUE(Until([&] { return opener_.sent.size() == 2 && counters().datagrams_dropped.Get() == 1; }));
  EXPECT_EQ(opener_.sent[1], "1 dns.example:53 after");
}

TEST_F(UdpForwardTest, ARefusedAssociationDropsAndTheNextDatagramAsksAgain) {
  Remember();
  opener_.refuse = true;
  ForwardSender sender(*reactor_);
  sender.SendTo(address_, "lost");
  ASSERT_TRUE(Until([&] { return counters().datagrams_dropped.Get() == 1; }));
  EXPECT_EQ(forward_->senders(), 0U);
  opener_.refuse = false;
  sender.SendTo(address_, "kept");
  ASSERT_TRUE(Until([&] { return opener_.sent.size() == 1; }));
  // An association that ends by itself takes its sender along, and nothing else.
  opener_.latest->handler.OnDead(Unavailable("gone"));
  EXPECT_EQ(forward_->senders(), 0U);
  EXPECT_EQ(counters().associations_open.Get(), 0);
  sender.SendTo(address_, "again");
  ASSERT_TRUE(Until([&] { return opener_.sent.size() == 2; }));
  EXPECT_EQ(opener_.sent[1], "2 dns.example:53 again");
}

TEST_F(UdpForwardTest, ATakenPortFails) {
  Remember();
  UdpForward second(*reactor_, opener_, {.host = "h.example", .port = 1}, "udp://second");
  const absl::Status opened = second.Open(address_);
  ASSERT_FALSE(opened.ok());
  EXPECT_NE(MessageOf(opened).find("address already in use"), std::string::npos) << opened;
}

}  // namespace
}  // namespace tunnel::net
