#include <elastic/io/output_file.hpp>

#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <string_view>

#include <support/scratch_folder.hpp>

#if __has_include(<sys/un.h>)
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#endif

namespace fs = std::filesystem;
using elastic::output_file;
using elastic::testing::contents;
using elastic::testing::put;
using elastic::testing::scratch_folder;

namespace {

void write(fs::path const& path, std::string_view text) {
  output_file file("path", path);
  file.append(text);
  file.rename();
}

bool refused(fs::path const& path, std::string const& with) {
  try {
    output_file const file("--out", path);
  } catch (elastic::error const& error) {
    std::string const message = error.what();
    if (message.find(with) == std::string::npos) MESSAGE(message);
    return error.argument() == "--out" && message.find(with) != std::string::npos;
  }
  return false;
}

}  // namespace

TEST_CASE("a file takes its name when it is whole, or never") {
  scratch_folder const folder;
  put(folder / "f", "old");
  {
    output_file file("path", folder / "f");
    CHECK(file.path() == folder / "f");
    file.append("new");
    file.close();
    CHECK(contents(folder / "f") == "old");
    CHECK(folder.entries() == 2);
  }
  CHECK(contents(folder / "f") == "old");
  CHECK(folder.entries() == 1);
  write(folder / "f", "new");
  write(folder / "g", "");
  CHECK(contents(folder / "f") == "new");
  CHECK(contents(folder / "g").empty());
  CHECK(folder.entries() == 2);
}

TEST_CASE("links are followed to the file that they name, there or to come") {
  scratch_folder const folder;
  fs::create_directory(folder / "far");
  put(folder / "far/there", "old");
  fs::create_symlink("far/there", folder / "relative");
  fs::create_symlink(folder / "far/there", folder / "absolute");
  fs::create_symlink("relative", folder / "twice");
  fs::create_symlink("far", folder / "near");
  fs::create_symlink("../to_come", folder / "far/dangling");
  fs::create_symlink("near/dangling", folder / "dangling");
  for (char const* name : {"relative", "absolute", "twice", "near/there"}) {
    CAPTURE(name);
    write(folder / name, name);
    CHECK(contents(folder / "far/there") == name);
  }
  write(folder / "dangling", "new");
  CHECK(contents(folder / "to_come") == "new");
  for (char const* name : {"relative", "absolute", "twice", "near", "far/dangling", "dangling"})
    CHECK(fs::is_symlink(folder / name));
  CHECK(folder.entries() == 7);
}

TEST_CASE("what takes no file is refused, and stays as it was") {
  scratch_folder const folder;
  fs::create_directory(folder / "folder");
  put(folder / "f", "old");
  fs::create_symlink("folder", folder / "to_folder");
  fs::create_symlink("itself", folder / "itself");
  fs::create_symlink("pong", folder / "ping");
  fs::create_symlink("ping", folder / "pong");
  fs::create_symlink("absent/f", folder / "nowhere");
  std::size_t const entries = folder.entries();
  CHECK(refused(folder / "folder", "a folder), expected a new file, or a regular one to replace"));
  CHECK(refused(folder / "to_folder", "a folder"));
  CHECK(refused(folder / "itself", "itself"));
  CHECK(refused(folder / "ping", "ping"));
  CHECK(refused(folder / "nowhere", "a place where a file can be written"));
  CHECK(refused(folder / "absent/f", "a place where a file can be written"));
  CHECK(refused(folder / "f/g", "a place where a file can be written"));
  CHECK(refused(folder / "f/", "a place where a file can be written"));
  CHECK(refused(folder / "to_come/", "a place where a file can be written"));
  CHECK(refused("", "a place where a file can be written"));
  CHECK(refused(folder / std::string("f\0g", 3), "a place where a file can be written"));
  CHECK(contents(folder / "f") == "old");
  CHECK(folder.entries() == entries);
}

#if __has_include(<sys/un.h>)
TEST_CASE("pipes and sockets are refused, and temporary names that are taken are left alone") {
  scratch_folder const folder;
  REQUIRE(mkfifo((folder / "pipe").c_str(), 0600) == 0);
  fs::create_symlink("pipe", folder / "to_pipe");
  sockaddr_un place{};
  place.sun_family = AF_UNIX;
  std::string const name = (folder / "socket").string();
  REQUIRE(name.size() < sizeof place.sun_path);
  name.copy(place.sun_path, name.size());
  int const made = socket(AF_UNIX, SOCK_STREAM, 0);
  REQUIRE(bind(made, reinterpret_cast<sockaddr const*>(&place), sizeof place) == 0);
  close(made);
  CHECK(refused(folder / "pipe", "a pipe"));
  CHECK(refused(folder / "to_pipe", "a pipe"));
  CHECK(refused(folder / "socket", "no regular file"));
  CHECK(folder.entries() == 3);
  CHECK(fs::is_fifo(folder / "pipe"));
  CHECK(fs::is_socket(folder / "socket"));

  put(folder / "other", "old");
  fs::create_symlink("other", folder / ".elastic-0.tmp");
  fs::rename(folder / "pipe", folder / ".elastic-1.tmp");
  fs::create_directory(folder / ".elastic-2.tmp");
  write(folder / "f", "new");
  CHECK(contents(folder / "f") == "new");
  CHECK(contents(folder / "other") == "old");
  CHECK(fs::is_symlink(folder / ".elastic-0.tmp"));
  CHECK(fs::is_fifo(folder / ".elastic-1.tmp"));
  CHECK(fs::is_directory(folder / ".elastic-2.tmp"));
}
#endif
