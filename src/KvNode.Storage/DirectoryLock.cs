using System.ComponentModel;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using KvNode.Native;
using Microsoft.Win32.SafeHandles;

namespace KvNode.Storage;

/// <summary>Another process uses the directory.</summary>
public sealed class DirectoryLockedException(string directory, int? processId)
    : IOException($"'{directory}' is in use by another process{(processId is { } pid ? $" (pid {pid})" : "")}; " +
        "two nodes must not share a data directory")
{
    /// <summary>The directory asked for.</summary>
    public string Directory { get; } = directory;

    /// <summary>The holder, as it wrote it into the lock file; null when that could not be read.</summary>
    public int? ProcessId { get; } = processId;
}

/// <summary>The exclusive right to a data directory, held until disposed or until the process ends, however it ends.</summary>
/// <remarks>
/// <para>An flock(2) on the file <c>LOCK</c>, which holds the process id in decimal and stays behind: removing it would let
/// two processes lock two files of the same name. LMDB's own lock file only orders writers, it does not keep a second
/// node out.</para>
/// <para>The file is opened with open(2) and not by .NET, which takes a shared flock of its own on every file it opens:
/// the asker could then not read the holder's id, and two askers could each keep the other from the lock.</para>
/// </remarks>
public sealed class DirectoryLock : IDisposable
{
    private const string FileName = "LOCK";
    private const int ReadWrite = 2;
    private const int Create = 0x40;
    private const int CloseOnExec = 0x80000;
    private const uint OwnerReadWriteOthersRead = 0x1A4; // rw-r--r--
    private const int NotPermitted = 1;
    private const int AccessDenied = 13;
    private const int ReadOnlyFileSystem = 30;
    private const int ProcessIdBytesMax = 16;

    private readonly SafeFileHandle _file;

    private DirectoryLock(SafeFileHandle file) => _file = file;

    /// <summary>Creates the directory if need be and takes its lock without waiting.</summary>
    /// <exception cref="DirectoryLockedException">Another process, or another part of this one, holds it.</exception>
    /// <exception cref="UnauthorizedAccessException">This user may not write there.</exception>
    /// <exception cref="IOException">The lock file cannot be opened.</exception>
    public static DirectoryLock Acquire(string directory)
    {
        _ = Directory.CreateDirectory(directory);
        var file = Open(Path.Combine(directory, FileName));
        try
        {
            if (!Libc.TryLockExclusive(file))
            {
                throw new DirectoryLockedException(directory, ReadProcessId(file));
            }

            RandomAccess.SetLength(file, 0);
            RandomAccess.Write(file, Encoding.ASCII.GetBytes(
                Environment.ProcessId.ToString(CultureInfo.InvariantCulture) + "\n"), 0);
            return new DirectoryLock(file);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Gives the directory free.</summary>
    public void Dispose() => _file.Dispose();

    private static int? ReadProcessId(SafeFileHandle file)
    {
        Span<byte> text = stackalloc byte[ProcessIdBytesMax];
        var length = RandomAccess.Read(file, text, 0);
        return int.TryParse(text[..length].TrimEnd((byte)'\n'), NumberStyles.None, CultureInfo.InvariantCulture, out var id)
            ? id
            : null;
    }

    private static unsafe SafeFileHandle Open(string path)
    {
        var open = (delegate* unmanaged<byte*, int, uint, int>)NativeLibrary.GetExport(
            NativeLibrary.GetMainProgramHandle(), "open");
        fixed (byte* name = Encoding.UTF8.GetBytes(path + '\0'))
        {
            var descriptor = open(name, ReadWrite | Create | CloseOnExec, OwnerReadWriteOthersRead);
            if (descriptor >= 0)
            {
                return new SafeFileHandle(descriptor, ownsHandle: true);
            }

            var error = Marshal.GetLastSystemError();
            var message = $"cannot open the lock file '{path}': {new Win32Exception(error).Message}";
            throw error is NotPermitted or AccessDenied or ReadOnlyFileSystem
                ? new UnauthorizedAccessException(message)
                : new IOException(message);
        }
    }
}
