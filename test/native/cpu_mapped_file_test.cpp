// Mapped files: what they hold, and whether it is fetched from the disk, as large as a model's tensors.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "../../native/runtime/mapped_file.h"
#include "cpu_check.h"

namespace alma::test {
namespace {

constexpr size_t kBytes = (size_t{5} << 20) + 12345;

char byte_at(size_t i) { return static_cast<char>(i * 2654435761u >> 13); }

class TemporaryFile {
 public:
  TemporaryFile() {
    std::string pattern = (std::filesystem::temp_directory_path() / "alma-mapped-XXXXXX").string();
    const int file = mkstemp(pattern.data());
    path = pattern;
    std::string content(kBytes, '\0');
    for (size_t i = 0; i < kBytes; ++i) content[i] = byte_at(i);
    check(file >= 0 && write(file, content.data(), kBytes) == static_cast<ssize_t>(kBytes), "a file to map");
    fsync(file);
    ::close(file);
  }
  ~TemporaryFile() { std::filesystem::remove(path); }

  // Pages of it that the system has in memory.
  size_t resident() const {
    const int file = open(path.c_str(), O_RDONLY);
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    void* const mapping = mmap(nullptr, kBytes, PROT_READ, MAP_PRIVATE, file, 0);
    ::close(file);
    std::vector<unsigned char> pages((kBytes + page - 1) / page);
#if defined(__linux__)
    check(mincore(mapping, kBytes, pages.data()) == 0, "mincore");
#endif
    munmap(mapping, kBytes);
    size_t count = 0;
    for (const unsigned char each : pages) count += each & 1;
    return count;
  }

  void evict() const {
#if defined(__linux__)
    const int file = open(path.c_str(), O_RDONLY);
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    ::close(file);
#endif
  }

  std::string path;
};

bool holds(const MappedFile& file, size_t offset) {
  const char* const data = static_cast<const char*>(file.data());
  for (size_t i = 0; i < file.bytes(); ++i)
    if (data[i] != byte_at(offset + i)) return false;
  return true;
}

// An emulated processor's system may take the request and do nothing.
bool system_populates() {
#if defined(__linux__) && defined(MADV_POPULATE_READ)
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* const gone = mmap(nullptr, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  munmap(gone, page);
  return madvise(gone, page, MADV_POPULATE_READ) != 0 && errno == ENOMEM;
#else
  return false;
#endif
}

}  // namespace

void test_mapped_file() {
  const TemporaryFile file;
  const size_t all = file.resident();
  for (const size_t offset : {size_t{0}, size_t{4}, size_t{4096}, (size_t{2} << 20) + 100, kBytes - 3}) {
    file.evict();
    const size_t before = file.resident();
    const MappedFile mapped(file.path, offset, kBytes - offset);
    const std::string what = "from byte " + std::to_string(offset);
    if (before == 0) {
      check(!mapped.was_cached(), what + ": what was evicted is not there");
      mapped.fetch(0, mapped.bytes() / 2);
      mapped.fetch(mapped.bytes() / 2, kBytes);  // more than there is
      if (offset == 0 && system_populates()) check(file.resident() == all, what + ": all of it is fetched");
    }
    mapped.fetch(kBytes, 1);
    check(mapped.bytes() == kBytes - offset && holds(mapped, offset), what + ": the bytes");
    if (before == 0) check(MappedFile(file.path, offset, kBytes - offset).was_cached(), what + ": then it is there");
  }

  check(holds(MappedFile(file.path, 0, kBytes), 0), "the whole file");
  const MappedFile first(file.path, 0, kBytes);
  MappedFile second(file.path, 1 << 20, 100);
  check(first.was_cached() && holds(second, 1 << 20), "what was just read is there");
  second = MappedFile(file.path, 7, 9);
  check(second.bytes() == 9 && holds(second, 7), "a mapping that was moved");
  if (system_populates()) {
    std::filesystem::resize_file(file.path, 4096);
    std::string code;
    try {
      first.fetch(0, kBytes);
    } catch (const Error& error) {
      code = error.code();
      check(std::string(error.what()).find(file.path) != std::string::npos, "the error names the file");
    }
    check(code == "ERR_ALMA_IO", "a file that became shorter gives an error, got '" + code + "'");
  }
}

}  // namespace alma::test
