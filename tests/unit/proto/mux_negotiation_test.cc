#include "proto/mux_negotiation.h"

#include <absl/container/flat_hash_map.h>
#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <type_traits>

#include "core/status.h"
#include "tests/unit/proto/guarded_input.h"

namespace tunnel::proto {
namespace {

MuxSessionId Id(uint8_t first) {
  std::array<uint8_t, kMuxSessionIdBytes> bytes{};
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(first + i);
  return MuxSessionId(bytes);
}

const std::string kSession = "AAECAwQFBgcICQoLDA0ODw";  // Id(0)

// "none", "error: ..." or the offer as we write it.
std::string Offer(std::string_view value) {
  const ExactBytes exact(value);
  const auto offer = ParseMuxOffer(exact.view());
  if (!offer.ok()) return fmt::format("error: {}", MessageOf(offer.status()));
  return offer->has_value() ? FormatMuxOffer(**offer) : "none";
}

std::string Answer(std::string_view value) {
  const ExactBytes exact(value);
  const auto answer = ParseMuxAnswer(exact.view());
  return answer.ok() ? FormatMuxAnswer(*answer) : fmt::format("error: {}", MessageOf(answer.status()));
}

TEST(MuxNegotiation, ReadsOffers) {
  const std::string ours = "mux/2; session=" + kSession + "; window=262144";
  EXPECT_EQ(FormatMuxOffer({.session = Id(0), .window = 262144}), ours);
  const auto read = ParseMuxOffer(ours);
  ASSERT_TRUE(read.ok() && read->has_value());
  EXPECT_EQ((*read)->session, Id(0));
  EXPECT_EQ((*read)->window, 262144U);
  for (const std::string& value : {
           ours,
           "mux/2;session=" + kSession + ";window=262144",
           " mux/2 ;\twindow=262144 ; session=" + kSession + "\t",
           "mux/2; colour=blue; session=" + kSession + "; window=262144; x=1",
           "mux/3; session=x, " + ours,
           ours + ",mux/3",
           "h3, " + ours + " , mux/20;window=1",
       }) {
    EXPECT_EQ(Offer(value), ours) << value;
  }
  EXPECT_EQ(Offer("mux/2; session=" + kSession + "; window=0"), "mux/2; session=" + kSession + "; window=0");
  EXPECT_EQ(Offer("mux/2; session=" + kSession + "; window=1073741824"),
            "mux/2; session=" + kSession + "; window=1073741824");
}

TEST(MuxNegotiation, AnOfferOfOtherProtocolsIsNone) {
  for (const std::string value : {"mux/3", "mux", "mux/3; session=x; window=y", "MUX/2", "mux/2.0, a/b;c=d"}) {
    EXPECT_EQ(Offer(value), "none") << value;
  }
}

TEST(MuxNegotiation, RefusesOffers) {
  const std::string ours = "mux/2; session=" + kSession + "; window=262144";
  const std::string name = "error: a protocol whose name is no token";
  const std::string token = "error: a parameter that is no token";
  const std::string session = "error: session is not 16 bytes in base64url";
  const std::string window = "error: window is no number from 0 to 1073741824";
  const std::pair<std::string, std::string> rows[] = {
      {"", name},
      {" ", name},
      {",", name},
      {ours + ",", name},
      {"," + ours, name},
      {ours + ",," + "mux/3", name},
      {"; " + ours, name},
      {"mux/", name},
      {"/2", name},
      {"mux/2/3", name},
      {"mux 2", name},
      {"\"mux/2\"", name},
      {"mux/2;", "error: a parameter without a value"},
      {ours + ";", "error: a parameter without a value"},
      {ours + "; flag", "error: a parameter without a value"},
      {ours + "; a=", token},
      {ours + "; =a", token},
      {ours + "; a =b", token},
      {ours + "; a= b", token},
      {ours + "; a=b c", token},
      {ours + "; a=\"b\"", token},
      {ours + "; a=b=c", token},
      {ours + "; a=\xc3\xa9", token},
      {ours + std::string("; a=\0", 5), token},
      {ours + "; window=1", "error: a parameter given twice"},
      {ours + "; session=" + kSession, "error: a parameter given twice"},
      {ours + "; a=b; a=b", "error: a parameter given twice"},
      {"mux/3; a=b; a=c", "error: a parameter given twice"},
      {ours + "," + ours, "error: mux/2 is given twice"},
      {"mux/2", "error: mux/2 without session"},
      {"mux/2; window=1", "error: mux/2 without session"},
      {"mux/2; session=" + kSession, "error: mux/2 without window"},
      {"mux/2; Session=" + kSession + "; window=1", "error: mux/2 without session"},
      {"mux/2; session=AAECAwQFBgcICQoLDA0OD; window=1", session},
      {"mux/2; session=AAECAwQFBgcICQoLDA0ODw0; window=1", session},
      {"mux/2; session=AAECAwQFBgcICQoLDA0ODx; window=1", session},  // bits left over
      {"mux/2; session=AAECAwQFBgcICQoLDA0OD+; window=1", session},
      {"mux/2; session=AAECAwQFBgcICQoLDA0ODw==; window=1", token},
      {"mux/2; session=" + kSession + "; window=01", window},
      {"mux/2; session=" + kSession + "; window=-1", window},
      {"mux/2; session=" + kSession + "; window=+1", window},
      {"mux/2; session=" + kSession + "; window=1k", window},
      {"mux/2; session=" + kSession + "; window=1073741825", window},
      {"mux/2; session=" + kSession + "; window=18446744073709551617", window},
      {ours + "; a=" + std::string(1024, 'a'), "error: longer than 1024 bytes"},
      {ours + ",a,a,a,a,a,a,a,a", "error: more than 8 protocols"},
      {"mux/3;a=1;b=1;c=1;d=1;e=1;f=1;g=1;h=1;i=1;j=1;k=1;l=1;m=1;n=1;o=1;p=1;q=1", "error: more than 16 parameters"},
  };
  for (const auto& [value, error] : rows) {
    EXPECT_EQ(Offer(value), error) << value;
    EXPECT_EQ(Offer(value).find(kSession), std::string::npos);
  }
  // Both bounds are reached by what is accepted.
  EXPECT_EQ(Offer("a,a,a,a,a,a,a," + ours), ours);
  EXPECT_EQ(Offer(ours + ";c=1;d=1;e=1;f=1;g=1;h=1;i=1;j=1;k=1;l=1;m=1;n=1;o=1;p=1"), ours);
  EXPECT_EQ(Offer(ours + "; a=" + std::string(1024 - ours.size() - 4, 'a')), ours);
}

TEST(MuxNegotiation, ReadsAnswers) {
  const std::string ours = "mux/2; window=262144; resume=30; epoch=18446744073709551615";
  EXPECT_EQ(FormatMuxAnswer({.window = 262144, .resume_seconds = 30, .epoch = UINT64_MAX}), ours);
  EXPECT_EQ(Answer(ours), ours);
  EXPECT_EQ(Answer("mux/2;epoch=18446744073709551615;resume=30;x=y;window=262144"), ours);
  EXPECT_EQ(Answer("mux/2; window=0; resume=0"), "mux/2; window=0; resume=0; epoch=0");
  EXPECT_EQ(Answer("mux/2; window=0; resume=86400; epoch=7"), "mux/2; window=0; resume=86400; epoch=7");
}

TEST(MuxNegotiation, RefusesAnswers) {
  const std::string alone = "error: an answer that does not choose mux/2 alone";
  const std::pair<std::string, std::string> rows[] = {
      {"", "error: a protocol whose name is no token"},
      {"mux/3; window=1; resume=1", alone},
      {"mux/2; window=1; resume=1, mux/3", alone},
      {"mux/3, mux/2; window=1; resume=1", alone},
      {"mux/2; resume=1", "error: mux/2 without window"},
      {"mux/2; window=1", "error: mux/2 without resume"},
      {"mux/2; window=1; resume=86401", "error: resume is no number from 0 to 86400"},
      {"mux/2; window=1; resume=1.5", "error: resume is no number from 0 to 86400"},
      {"mux/2; window=1; resume=1; epoch=18446744073709551616",
       "error: epoch is no number from 0 to 18446744073709551615"},
      {"mux/2; window=1; resume=1; resume=1", "error: a parameter given twice"},
      {"mux/2; window=1; resume=1; epoch=00", "error: epoch is no number from 0 to 18446744073709551615"},
  };
  for (const auto& [value, error] : rows) EXPECT_EQ(Answer(value), error) << value;
}

template <typename T>
concept Streamable = requires(std::ostream& out, const T& value) { out << value; };

TEST(MuxSessionId, ComparesAndHashesButDoesNotPrint) {
  static_assert(!Streamable<MuxSessionId>);
  static_assert(!fmt::is_formattable<MuxSessionId>::value);
  static_assert(!std::is_convertible_v<MuxSessionId, std::string>);
  EXPECT_TRUE(Id(0) == Id(0));
  EXPECT_FALSE(Id(0) == MuxSessionId());
  absl::flat_hash_map<MuxSessionId, int> sessions;
  for (uint8_t first = 0; first < 200; ++first) EXPECT_TRUE(sessions.try_emplace(Id(first), first).second);
  for (uint8_t first = 0; first < 200; ++first) EXPECT_EQ(sessions.at(Id(first)), first);
  for (size_t at = 0; at < kMuxSessionIdBytes; ++at) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      std::array<uint8_t, kMuxSessionIdBytes> bytes{};
      bytes[at] = static_cast<uint8_t>(1U << bit);
      EXPECT_FALSE(MuxSessionId(bytes) == MuxSessionId()) << at;
      EXPECT_TRUE(MuxSessionId(bytes) == MuxSessionId(bytes)) << at;
    }
  }
}

}  // namespace
}  // namespace tunnel::proto
