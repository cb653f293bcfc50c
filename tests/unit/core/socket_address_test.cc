#include "core/socket_address.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <cerrno>
#include <map>

#include "core/io_error.h"

namespace tunnel::core {
namespace {

using namespace std::string_view_literals;

TEST(SocketAddress, ParsesLiteralsAndWritesThemCanonically) {
  const std::map<std::string, std::string> texts = {
      {"1.2.3.4", "1.2.3.4:443"},
      {"0.0.0.0", "0.0.0.0:443"},
      {"255.255.255.255", "255.255.255.255:443"},
      {"::", "[::]:443"},
      {"::1", "[::1]:443"},
      {"2001:DB8:0:0:0:0:0:1", "[2001:db8::1]:443"},
      {"::ffff:1.2.3.4", "1.2.3.4:443"},
      {"::ffff:102:304", "1.2.3.4:443"},
      {"::1.2.3.4", "[::1.2.3.4]:443"},
  };
  for (const auto& [text, written] : texts) {
    const auto address = SocketAddress::Parse(text, 443);
    ASSERT_TRUE(address.has_value()) << text;
    EXPECT_EQ(address->ToString(), written);
    EXPECT_EQ(address->port(), 443);
    EXPECT_EQ(SocketAddress::FromKernel(address->kernel(), address->kernel_length()), *address);
  }
}

TEST(SocketAddress, RefusesWhatIsNoLiteral) {
  for (const std::string_view text : {""sv, "localhost"sv, "1.2.3"sv, "1.2.3.4.5"sv, "256.1.1.1"sv, "1.2.3.4 "sv,
                                      " 1.2.3.4"sv, "01.2.3.4"sv, "[::1]"sv, "::1%lo"sv, ":::"sv, "1:2:3:4:5:6:7:8:9"sv,
                                      "0x7f.1"sv, "2130706433"sv, "1.2.3.4:80"sv, "1.2.3.4\0.evil"sv, "::1\0"sv}) {
    EXPECT_FALSE(SocketAddress::Parse(text, 1).has_value()) << text;
  }
}

TEST(SocketAddress, MappedAddressesCannotEvadeRules) {
  const SocketAddress plain = SocketAddress::V4({10, 0, 0, 1}, 80);
  const auto mapped = SocketAddress::Parse("::ffff:10.0.0.1", 80);
  ASSERT_TRUE(mapped.has_value());
  EXPECT_TRUE(mapped->is_v6());
  EXPECT_EQ(mapped->ip(), plain.ip());
  EXPECT_EQ(mapped->mapped_bytes(), plain.mapped_bytes());
  EXPECT_FALSE(*mapped == plain) << "as the kernel sees them they differ";
}

TEST(SocketAddress, PortsAndEquality) {
  SocketAddress a = SocketAddress::V6({0x20, 1}, 65535);
  EXPECT_EQ(a.port(), 65535);
  SocketAddress b = a;
  b.set_port(1);
  EXPECT_FALSE(a == b);
  b.set_port(65535);
  EXPECT_TRUE(a == b);
}

TEST(SocketAddress, UnknownFamiliesAreNotValid) {
  EXPECT_FALSE(SocketAddress().valid());
  EXPECT_EQ(SocketAddress().ip(), "unknown");
  EXPECT_EQ(SocketAddress().port(), 0);
  sockaddr other{};
  other.sa_family = AF_PACKET;
  EXPECT_FALSE(SocketAddress::FromKernel(&other, sizeof(other)).valid());
  const SocketAddress v6 = SocketAddress::V6({}, 1);
  EXPECT_FALSE(SocketAddress::FromKernel(v6.kernel(), sizeof(sockaddr_in)).valid()) << "cut short";
}

TEST(SocketAddress, UnixSockets) {
  const auto address = SocketAddress::Unix("/run/a.sock");
  ASSERT_TRUE(address.has_value());
  EXPECT_TRUE(address->valid() && address->is_unix() && !address->is_v6());
  EXPECT_EQ(address->family(), AF_UNIX);
  EXPECT_EQ(address->unix_path(), "/run/a.sock");
  EXPECT_EQ(address->ToString(), "unix:/run/a.sock");
  EXPECT_EQ(address->ip(), "unix");
  EXPECT_EQ(address->port(), 0);
  EXPECT_EQ((address->mapped_bytes()), (std::array<uint8_t, 16>{}));
  EXPECT_EQ(SocketAddress::FromKernel(address->kernel(), address->kernel_length()), *address);
  // The kernel counts the zero at the end, or the whole structure.
  EXPECT_EQ(SocketAddress::FromKernel(address->kernel(), address->kernel_length() - 1), *address);
  EXPECT_EQ(SocketAddress::FromKernel(address->kernel(), sizeof(sockaddr_un)), *address);
  EXPECT_FALSE(*SocketAddress::Unix("/run/b.sock") == *address);
  EXPECT_FALSE(*SocketAddress::Unix("/run/a.soc") == *address);

  sockaddr_un local{};
  local.sun_family = AF_UNIX;
  const auto unnamed = SocketAddress::FromKernel(reinterpret_cast<const sockaddr*>(&local), sizeof(sa_family_t));
  EXPECT_TRUE(unnamed.valid() && unnamed.is_unix());
  EXPECT_EQ(unnamed.ToString(), "unix:");
  EXPECT_EQ(unnamed.unix_path(), "");
  EXPECT_EQ(SocketAddress::V4({1, 2, 3, 4}, 5).unix_path(), "");

  const std::string longest(kMaxUnixPathBytes, 'x');
  ASSERT_TRUE(SocketAddress::Unix(longest).has_value());
  EXPECT_EQ(SocketAddress::Unix(longest)->unix_path(), longest);
  EXPECT_FALSE(SocketAddress::Unix(longest + "x").has_value());
  EXPECT_FALSE(SocketAddress::Unix("").has_value());
  EXPECT_FALSE(SocketAddress::Unix("/run\0/x"sv).has_value());
}

TEST(IoError, TranslatesEveryErrnoOfASocketCall) {
  const std::map<int, IoError> expected = {
      {0, IoError::kOk},
      {ECANCELED, IoError::kCancelled},
      {ENOENT, IoError::kNotFound},
      {ENOTDIR, IoError::kNotFound},
      {ECONNREFUSED, IoError::kRefused},
      {EHOSTUNREACH, IoError::kUnreachable},
      {ENETUNREACH, IoError::kNetworkUnreachable},
      {ENETDOWN, IoError::kNetworkUnreachable},
      {EHOSTDOWN, IoError::kUnreachable},
      {EADDRNOTAVAIL, IoError::kNetworkUnreachable},
      {ETIMEDOUT, IoError::kTimedOut},
      {ECONNRESET, IoError::kReset},
      {EPIPE, IoError::kReset},
      {ECONNABORTED, IoError::kReset},
      {ENOTCONN, IoError::kReset},
      {ESHUTDOWN, IoError::kReset},
      {EADDRINUSE, IoError::kAddressInUse},
      {EACCES, IoError::kDenied},
      {EPERM, IoError::kDenied},
      {EMFILE, IoError::kNoDescriptors},
      {ENFILE, IoError::kNoDescriptors},
      {ENOMEM, IoError::kNoMemory},
      {ENOBUFS, IoError::kNoMemory},
      {EAFNOSUPPORT, IoError::kUnsupported},
      {EOPNOTSUPP, IoError::kUnsupported},
      {EPROTONOSUPPORT, IoError::kUnsupported},
      {ENOSYS, IoError::kUnsupported},
  };
  for (int number = 0; number < 200; ++number) {
    const auto found = expected.find(number);
    EXPECT_EQ(FromErrno(number), found == expected.end() ? IoError::kOther : found->second) << number;
  }
}

TEST(IoError, EveryErrorHasWordsAndAStatus) {
  const std::map<IoError, absl::StatusCode> codes = {
      {IoError::kOk, absl::StatusCode::kOk},
      {IoError::kCancelled, absl::StatusCode::kCancelled},
      {IoError::kNotFound, absl::StatusCode::kUnavailable},
      {IoError::kRefused, absl::StatusCode::kUnavailable},
      {IoError::kUnreachable, absl::StatusCode::kUnavailable},
      {IoError::kNetworkUnreachable, absl::StatusCode::kUnavailable},
      {IoError::kTimedOut, absl::StatusCode::kDeadlineExceeded},
      {IoError::kReset, absl::StatusCode::kUnavailable},
      {IoError::kAddressInUse, absl::StatusCode::kUnavailable},
      {IoError::kDenied, absl::StatusCode::kPermissionDenied},
      {IoError::kNoDescriptors, absl::StatusCode::kResourceExhausted},
      {IoError::kNoMemory, absl::StatusCode::kResourceExhausted},
      {IoError::kUnsupported, absl::StatusCode::kUnavailable},
      {IoError::kOther, absl::StatusCode::kUnavailable},
  };
  for (const auto& [error, code] : codes) {
    const absl::Status status = ToStatus(error, "dial");
    EXPECT_EQ(status.code(), code);
    EXPECT_FALSE(ToString(error).empty());
    if (error != IoError::kOk) {
      EXPECT_EQ(MessageOf(status), "dial: " + std::string(ToString(error)));
      EXPECT_EQ(IoErrorOf(status), error);
      EXPECT_EQ(IoErrorOf(Annotate(status, "outer")), error);
    }
  }
}

}  // namespace
}  // namespace tunnel::core
