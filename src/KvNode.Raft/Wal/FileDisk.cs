using KvNode.Native;
using Microsoft.Win32.SafeHandles;

namespace KvNode.Raft.Wal;

/// <summary>
/// <see cref="IDisk"/> on a real directory.
/// </summary>
/// <remarks>
/// Reads and writes are RandomAccess (pread, pwrite). Syncs are <see cref="Libc"/>'s: .NET's own lose the error.
/// </remarks>
internal sealed class FileDisk : IDisk
{
    private readonly DriveInfo _drive;

    private FileDisk(string directory)
    {
        Location = directory;
        _drive = new DriveInfo(directory);
    }

    public string Location { get; }

    public long FreeBytes => _drive.AvailableFreeSpace;

    /// <summary>Opens the directory, making it and its missing parents, durably.</summary>
    public static FileDisk OpenOrCreate(string directory)
    {
        var full = Path.GetFullPath(directory);
        CreateDurably(full);
        if (Path.GetDirectoryName(full) is { Length: > 0 } parent)
        {
            // Even if it was there: the process that made it may have been killed before it synced the name.
            Libc.SyncDirectory(parent);
        }

        return new FileDisk(full);
    }

    /// <summary>Opens an existing directory and changes nothing.</summary>
    /// <exception cref="DirectoryNotFoundException">It is not there.</exception>
    public static FileDisk OpenExisting(string directory)
    {
        var full = Path.GetFullPath(directory);
        return Directory.Exists(full)
            ? new FileDisk(full)
            : throw new DirectoryNotFoundException($"there is no directory '{full}'");
    }

    public string[] List()
    {
        var names = Directory.GetFiles(Location);
        for (var i = 0; i < names.Length; i++)
        {
            names[i] = Path.GetFileName(names[i]);
        }

        return names;
    }

    public IDiskFile Create(string name) => new DiskFile(PathOf(name), FileMode.CreateNew, FileAccess.ReadWrite);

    public IDiskFile Open(string name, bool readOnly = false) =>
        new DiskFile(PathOf(name), FileMode.Open, readOnly ? FileAccess.Read : FileAccess.ReadWrite);

    public void Rename(string source, string target) => File.Move(PathOf(source), PathOf(target), overwrite: true);

    public void Delete(string name) => File.Delete(PathOf(name));

    public void SyncDirectory() => Libc.SyncDirectory(Location);

    private static void CreateDurably(string directory)
    {
        if (Directory.Exists(directory))
        {
            return;
        }

        var parent = Path.GetDirectoryName(directory);
        if (!string.IsNullOrEmpty(parent))
        {
            CreateDurably(parent);
        }

        _ = Directory.CreateDirectory(directory);
        if (!string.IsNullOrEmpty(parent))
        {
            Libc.SyncDirectory(parent);
        }
    }

    private string PathOf(string name) => Path.Combine(Location, name);

    private sealed class DiskFile : IDiskFile
    {
        private readonly string _path;
        private readonly SafeFileHandle _handle;

        public DiskFile(string path, FileMode mode, FileAccess access)
        {
            _path = path;
            // FileShare.ReadWrite: no advisory lock of .NET's on top; the host holds the directory's lock.
            _handle = File.OpenHandle(path, mode, access, FileShare.ReadWrite | FileShare.Delete);
        }

        public long Length => RandomAccess.GetLength(_handle);

        public int Read(long offset, Span<byte> buffer)
        {
            var total = 0;
            while (total < buffer.Length)
            {
                var count = RandomAccess.Read(_handle, buffer[total..], offset + total);
                if (count == 0)
                {
                    break;
                }

                total += count;
            }

            return total;
        }

        public void Write(long offset, ReadOnlySpan<byte> data) => RandomAccess.Write(_handle, data, offset);

        public void SyncData() => Libc.SyncData(_handle, _path);

        public void Dispose() => _handle.Dispose();
    }
}
