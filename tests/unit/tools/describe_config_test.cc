#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "command_line.h"

namespace tunnel::tools {
namespace {

using testing::HasSubstr;

TEST(DescribeConfig, MasksSecrets) {
  const net::Config config = Good(std::string("-l proxy://us3r:") + kPassword +
                                  "@127.0.0.1:1080 -l tcp://127.0.0.1:2/h:3,127.0.0.1:4/h:5 -l udp://127.0.0.1:2/h:6 "
                                  "-l rtcp://127.0.0.1:2/h:7 "
                                  "-f wss://t.example/p -ip ::1 -token " +
                                  kSecret);
  EXPECT_EQ(DescribeConfig(config),
            "effective configuration: client "
            "listen=proxy://***@127.0.0.1:1080,tcp://127.0.0.1:2/h:3,tcp://127.0.0.1:4/h:5,udp://127.0.0.1:2/h:6,rtcp:/"
            "/127.0.0.1:2/h:7 "
            "token=*** "
            "server=wss://t.example:443/p ip=::1 channels=3 ech=cloudflare-ech.com "
            "dns=https://dns.alidns.com/dns-query proto=auto state=/home/u/.local/state/ech-tunnel backend=auto "
            "threads=auto log-level=info log-format=text");
}

TEST(DescribeConfig, Server) {
  EXPECT_EQ(
      DescribeConfig(Good("-l wss://[::]:443/p -name t.example -require-ech -allow-target [::1]:80-81 "
                          "-allow-reverse 127.0.0.0/8:8000-9000,[::1]:* "
                          "-disable-feature single-issuer -congestion cubic -threads 4")),
      "effective configuration: server listen=wss://[::]:443/p token=none cidr=0.0.0.0/0,::/0 cert=made name=t.example "
      "ech-keys=/home/u/.local/state/ech-tunnel/ech ech-public-name=gateway.example.org require-ech=on "
      "serve-dns=off allow-target=[::1]/128:80-81 allow-reverse=127.0.0.0/8:8000-9000,[::1]/128:* "
      "state=/home/u/.local/state/ech-tunnel backend=auto threads=4 "
      "disable-feature=single-issuer congestion=cubic log-level=info log-format=text");
}

TEST(DescribeConfig, IsOneLineWhateverIsInIt) {
  net::Config config;
  config.state_directory = "a b\nc";
  EXPECT_THAT(DescribeConfig(config), HasSubstr("state=\"a b\\x0ac\""));
}

}  // namespace
}  // namespace tunnel::tools
