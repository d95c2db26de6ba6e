using System.Runtime.InteropServices;
using KvNode.Storage.Lmdb;

namespace KvNode.Storage;

/// <summary>A C library that KvNode needs is not on this machine. The message names the package to install.</summary>
public sealed class NativeLibraryMissingException(string library, string package, string? detail)
    : Exception($"the C library {library} was not found{(detail is null ? "" : $" ({detail})")}: install Debian's package " +
        $"{package} (apt-get install {package})")
{
    /// <summary>File name as the dynamic linker knows it.</summary>
    public string Library { get; } = library;

    /// <summary>Debian package that holds it.</summary>
    public string Package { get; } = package;
}

/// <summary>The two C libraries KvNode stands on, and the check that they are there.</summary>
public static class NativeLibraries
{
    /// <summary>Loads LMDB and LZ4, so that a machine without them says so at start and not at the first use.</summary>
    /// <exception cref="NativeLibraryMissingException">One is absent, or LMDB is not of the 0.9 line from 0.9.24 on.
    /// The program exits with 69 (service unavailable).</exception>
    /// <remarks>Any thread, any number of times.</remarks>
    public static void Require()
    {
        RequireLmdb();
        RequireLibrary("liblz4.so.1", "liblz4-1");
    }

    internal static unsafe void RequireLmdb()
    {
        RequireLibrary(LmdbNative.Library, "liblmdb0");
        int major, minor, patch;
        _ = LmdbNative.mdb_version(&major, &minor, &patch);
        if ((major, minor) != (0, 9) || patch < 24)
        {
            throw new NativeLibraryMissingException(LmdbNative.Library, "liblmdb0",
                $"version {major}.{minor}.{patch} is there, 0.9.24 or a later 0.9 is needed");
        }
    }

    /// <summary>Loads one library by the name the dynamic linker knows.</summary>
    /// <exception cref="NativeLibraryMissingException">It is absent.</exception>
    internal static void RequireLibrary(string library, string package)
    {
        if (!NativeLibrary.TryLoad(library, typeof(NativeLibraries).Assembly, DllImportSearchPath.SafeDirectories, out _))
        {
            throw new NativeLibraryMissingException(library, package, detail: null);
        }
    }
}
