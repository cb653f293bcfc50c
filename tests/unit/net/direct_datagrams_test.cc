#include "net/direct_datagrams.h"

#include <gtest/gtest.h>

#include "datagram_peers.h"

namespace tunnel::net {
namespace {

using proto::Target;

constexpr core::Duration kIdle = std::chrono::milliseconds(60);

class DirectDatagramsTest : public DatagramTest {
 protected:
  ~DirectDatagramsTest() override { End(); }
  void Open(SenderFilter filter = SenderFilter::kTargetsOnly, core::Duration idle = kAssociationIdleLimit) {
    way_.emplace(*reactor_, resolver_, policy_, scope_, idle);
    OpenOn(*way_, filter);
  }

  std::optional<DirectDatagrams> way_;
};

TEST_F(DirectDatagramsTest, ReachesAddressesAndNames) {
  EchoTarget echo(*reactor_);
  resolver_.names["target.test"] = {"127.0.0.1"};
  Open();
  Send(echo.target(), "one");
  ASSERT_TRUE(Until([&] { return recorder_.received.size() == 1; }));
  Send({.host = "target.test", .port = echo.port}, "two");
  ASSERT_TRUE(Until([&] { return recorder_.received.size() == 2; }));
  const std::string from = proto::ToString(echo.target()) + " echo:";
  EXPECT_EQ(recorder_.received, (std::vector<std::string>{from + "one", from + "two"}));
  EXPECT_EQ(echo.sources[0], echo.sources[1]) << "every target sees the same sender";
  ASSERT_EQ(recorder_.targets.size(), 2U);
  EXPECT_TRUE(recorder_.targets[0].second.ok() && recorder_.targets[1].second.ok());
  EXPECT_EQ(resolver_.questions.size(), 1U);
}

TEST_F(DirectDatagramsTest, WaitsForTheNameAndDropsWhatIsTooMuch) {
  EchoTarget echo(*reactor_);
  resolver_.names["target.test"] = {"127.0.0.1"};
  resolver_.hold = true;
  Open();
  const Target target{.host = "target.test", .port = echo.port};
  for (size_t i = 0; i < kWaitingDatagrams + 5; ++i) Send(target, std::to_string(i));
  Send({.host = "large.test", .port = 1}, std::string(60000, 'x'));
  Send({.host = "large.test", .port = 1}, std::string(60000, 'x'));
  Send({.host = "large.test", .port = 1}, std::string(60000, 'x'));
  EXPECT_EQ(counters().datagrams_dropped.Get(), 6);
  EXPECT_EQ(resolver_.questions.size(), 2U);
  resolver_.released.Set();
  ASSERT_TRUE(Until([&] { return recorder_.received.size() == kWaitingDatagrams && recorder_.targets.size() == 2; }));
  for (size_t i = 0; i < kWaitingDatagrams; ++i) EXPECT_EQ(echo.received[i], std::to_string(i));
  EXPECT_EQ(counters().datagrams_dropped.Get(), 8) << "what waited for the unknown name";
}

TEST_F(DirectDatagramsTest, ARefusedTargetIsNotAskedAboutForEachDatagram) {
  Open();
  const Target unknown{.host = "unknown.test", .port = 53};
  for (int i = 0; i < 10; ++i) {
    Send(unknown, "x");
    ASSERT_TRUE(Until([&] { return !recorder_.targets.empty(); }));
  }
  EXPECT_EQ(resolver_.questions.size(), 1U);
  EXPECT_EQ(recorder_.targets.size(), 1U);
  EXPECT_EQ(recorder_.targets[0].second.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(counters().datagrams_dropped.Get(), 10);
}

TEST_F(DirectDatagramsTest, ThePolicyJudgesTheAddress) {
  EchoTarget echo(*reactor_);
  policy_ = TargetPolicy({}, {});
  resolver_.names["innocent.test"] = {"127.0.0.1", "169.254.169.254"};
  Open();
  Send(echo.target(), "x");
  Send({.host = "innocent.test", .port = echo.port}, "x");
  ASSERT_TRUE(Until([&] { return recorder_.targets.size() == 2; }));
  for (const auto& [host, status] : recorder_.targets) {
    EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << host;
  }
  EXPECT_EQ(counters().targets_denied.Get(), 2);
  EXPECT_EQ(counters().datagrams_sent.Get(), 0);
}

TEST_F(DirectDatagramsTest, TakesTheFirstAddressThereIsAWayTo) {
  EchoTarget echo(*reactor_);
  resolver_.names["target.test"] = {"255.255.255.255", "127.0.0.1"};  // broadcasts are not sent
  Open();
  Send({.host = "target.test", .port = echo.port}, "x");
  EXPECT_TRUE(Until([&] { return recorder_.received.size() == 1; }));
}

TEST_F(DirectDatagramsTest, SendersAreFilteredAsAsked) {
  EchoTarget echo(*reactor_);
  EchoTarget stranger(*reactor_);
  for (const SenderFilter filter : {SenderFilter::kTargetsOnly, SenderFilter::kAnySender}) {
    Open(filter);
    recorder_.received.clear();
    echo.sources.clear();
    Send(echo.target(), "x");
    ASSERT_TRUE(Until([&] { return recorder_.received.size() == 1; }));
    core::SocketAddress association = *core::SocketAddress::Parse("127.0.0.1", echo.sources[0].port());
    stranger.SendTo(association, "unasked");
    ASSERT_TRUE(
        Until([&] { return counters().datagrams_foreign.Get() == 1 && counters().datagrams_received.Get() > 2; }));
    if (filter == SenderFilter::kTargetsOnly) {
      EXPECT_EQ(recorder_.received.size(), 1U);
    } else {
      ASSERT_TRUE(Until([&] { return recorder_.received.size() == 2; }));
      EXPECT_EQ(recorder_.received[1], proto::ToString(stranger.target()) + " unasked");
    }
  }
}

TEST_F(DirectDatagramsTest, IdleSocketsAreClosedAndOpenedAgain) {
  EchoTarget echo(*reactor_);
  Open(SenderFilter::kTargetsOnly, kIdle);
  const int64_t before = counters().sockets_open.Get();
  Send(echo.target(), "one");
  ASSERT_TRUE(Until([&] { return recorder_.received.size() == 1; }));
  EXPECT_EQ(counters().sockets_open.Get(), before + 1);
  ASSERT_TRUE(Until([&] { return counters().sockets_open.Get() == before; }));
  EXPECT_FALSE(recorder_.dead.has_value());
  Send(echo.target(), "two");
  ASSERT_TRUE(Until([&] { return recorder_.received.size() == 2; }));
  EXPECT_EQ(recorder_.targets.size(), 2U) << "the target was forgotten and found out about again";
}

TEST_F(DirectDatagramsTest, WhatIsUsedIsNotIdle) {
  EchoTarget echo(*reactor_);
  Open(SenderFilter::kTargetsOnly, kIdle);
  const core::TimePoint end = reactor_->backend().Now() + 4 * kIdle;
  size_t sent = 0;
  while (reactor_->backend().Now() < end) {
    Send(echo.target(), "x");
    ++sent;
    ASSERT_TRUE(Until([&] { return recorder_.received.size() == sent; }));
  }
  EXPECT_EQ(recorder_.targets.size(), 1U);
}

TEST_F(DirectDatagramsTest, TooManyTargetsMakeRoom) {
  EchoTarget echo(*reactor_);
  Open();
  Send(echo.target(), "first");
  for (uint16_t i = 0; i < 3 * kTargetsPerAssociation; ++i) {
    association_->Prepare({.host = fmt::format("127.1.{}.{}", i / 250, 1 + i % 250), .port = 9});
  }
  Send(echo.target(), "last");
  ASSERT_TRUE(Until([&] { return recorder_.received.size() == 2; }));
}

TEST_F(DirectDatagramsTest, MayBeDestroyedWhileItWaitsAndFromItsCallbacks) {
  EchoTarget echo(*reactor_);
  resolver_.names["target.test"] = {"127.0.0.1"};
  resolver_.hold = true;
  Open();
  Send({.host = "target.test", .port = echo.port}, "x");
  association_.reset();
  resolver_.released.Set();
  ASSERT_TRUE(Until([&] { return scope_.empty(); }));
  EXPECT_TRUE(recorder_.targets.empty());

  Open();
  recorder_.on_target = [&] { association_.reset(); };
  Send(echo.target(), "x");
  ASSERT_TRUE(Until([&] { return association_ == nullptr; }));
  recorder_.on_target = nullptr;
  Open();
  recorder_.on_datagram = [&] { association_.reset(); };
  Send(echo.target(), "x");
  Send(echo.target(), "y");
  ASSERT_TRUE(Until([&] { return association_ == nullptr; }));
  EXPECT_EQ(counters().associations_open.Get(), 0);
}

}  // namespace
}  // namespace tunnel::net
