#include "net/secret.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace tunnel::net {
namespace {

TEST(SecretTest, EqualsOnlyItself) {
  const Secret secret(std::string("correct horse"));
  EXPECT_TRUE(SecretEquals(secret, "correct horse"));
  EXPECT_FALSE(SecretEquals(secret, "correct hors"));
  EXPECT_FALSE(SecretEquals(secret, "correct horse "));
  EXPECT_FALSE(SecretEquals(secret, "incorrect horse"));
  EXPECT_FALSE(SecretEquals(secret, ""));
  EXPECT_TRUE(SecretEquals(Secret(), ""));
}

TEST(SecretTest, MovingLeavesNothing) {
  for (const std::string& text : {std::string("short"), std::string(100, 'x')}) {
    Secret from(text);
    Secret to(std::move(from));
    EXPECT_EQ(to.Reveal(), text);
    EXPECT_TRUE(from.empty());  // NOLINT(bugprone-use-after-move): that it is empty is promised
    Secret again;
    again = std::move(to);
    EXPECT_EQ(again.Reveal(), text);
    EXPECT_TRUE(to.empty());  // NOLINT(bugprone-use-after-move)
    const Secret copy = again;
    EXPECT_EQ(copy.Reveal(), text);
  }
}

}  // namespace
}  // namespace tunnel::net
