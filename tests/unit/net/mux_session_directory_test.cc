#include "net/mux_session_directory.h"

#include <gtest/gtest.h>

#include <array>

#include "core/sim_world.h"

namespace tunnel::net {
namespace {

// Two cores of one process.
class MuxSessionDirectoryTest : public testing::Test {
 protected:
  MuxSessionDirectoryTest() {
    const core::SimHost host = world_.network().AddHost({*core::SocketAddress::Parse("192.0.2.1", 0)});
    first_ = world_.MakeReactor(host, 0);
    second_ = world_.MakeReactor(host, 1);
    directory_.emplace(*first_);
  }
  ~MuxSessionDirectoryTest() override { directory_.reset(); }

  static proto::MuxSessionId Id(uint8_t first) {
    std::array<uint8_t, proto::kMuxSessionIdBytes> bytes{first};
    return proto::MuxSessionId(bytes);
  }

  core::SimWorld world_{core::SimOptions{.seed = 1}};
  std::unique_ptr<core::Reactor> first_;
  std::unique_ptr<core::Reactor> second_;
  std::optional<MuxSessionDirectory> directory_;
};

TEST_F(MuxSessionDirectoryTest, KeepsTheCoreThatAskedFirst) {
  EXPECT_EQ(directory_->Claim(*second_, Id(1)), 1U);
  EXPECT_EQ(directory_->Claim(*first_, Id(1)), 1U);
  EXPECT_EQ(directory_->Claim(*first_, Id(2)), 0U);
  EXPECT_EQ(directory_->Claim(*second_, Id(2)), 0U);
  EXPECT_EQ(directory_->size(), 2U);
}

TEST_F(MuxSessionDirectoryTest, IsForgottenOnlyByWhoKeepsIt) {
  EXPECT_EQ(directory_->Claim(*first_, Id(1)), 0U);
  directory_->Forget(*second_, Id(1));
  EXPECT_EQ(directory_->Claim(*second_, Id(1)), 0U);
  directory_->Forget(*first_, Id(1));
  directory_->Forget(*first_, Id(1));
  EXPECT_EQ(directory_->size(), 0U);
  EXPECT_EQ(directory_->Claim(*second_, Id(1)), 1U);
}

}  // namespace
}  // namespace tunnel::net
