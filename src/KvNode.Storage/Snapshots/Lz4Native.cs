using System.Runtime.InteropServices;

namespace KvNode.Storage.Snapshots;

/// <summary>
/// The part of liblz4's frame interface (lz4frame.h, 1.9.x) that KvNode uses, one to one.
/// </summary>
/// <remarks>
/// A context belongs to one thread at a time; two contexts are independent. Every size result may be an error code:
/// ask <see cref="Check"/>. Buffers are only used during the call.
/// </remarks>
internal static unsafe partial class Lz4Native
{
    private const string Library = "liblz4.so.1";

    /// <summary>LZ4F_VERSION: the structure layout below, checked by the library when a context is made.</summary>
    private const uint FrameVersion = 100;

    /// <summary>The first four bytes of every LZ4 frame, read little-endian.</summary>
    public const uint FrameMagic = 0x184D2204;

    /// <summary>LZ4F_max256KB.</summary>
    private const int BlockSize256KiB = 5;

    private const int BlocksIndependent = 1;

    /// <summary>LZ4F_HEADER_SIZE_MAX: what <see cref="CompressBegin"/> may write.</summary>
    public const int FrameHeaderBytesMax = 19;

    /// <summary>How <c>state.bin</c> is compressed: level 0, independent blocks of 256 KiB, each with its checksum, and
    /// a checksum over the whole content. Every update leaves as a block at once, so the library keeps no
    /// copy.</summary>
    public static readonly Preferences SnapshotPreferences = new()
    {
        BlockSizeId = BlockSize256KiB,
        BlockMode = BlocksIndependent,
        ContentChecksum = 1,
        BlockChecksum = 1,
        AutoFlush = 1,
    };

    /// <exception cref="DllNotFoundException">liblz4.so.1 is not installed.</exception>
    public static CompressionContext CreateCompressionContext()
    {
        Check(CreateCompressionContext(out var context, FrameVersion), "create");
        return new CompressionContext(context);
    }

    /// <exception cref="DllNotFoundException">liblz4.so.1 is not installed.</exception>
    public static DecompressionContext CreateDecompressionContext()
    {
        Check(CreateDecompressionContext(out var context, FrameVersion), "create");
        return new DecompressionContext(context);
    }

    /// <summary>True when a size result is an error code.</summary>
    public static bool IsError(nuint result) => IsErrorCode(result) != 0;

    /// <summary>The library's name for an error code, such as <c>ERROR_contentChecksum_invalid</c>.</summary>
    public static string ErrorName(nuint result) =>
        Marshal.PtrToStringUTF8(GetErrorName(result)) ?? "unknown LZ4 error";

    /// <summary>Hands on a result that is a size.</summary>
    /// <exception cref="InvalidOperationException">It is an error code: when compressing that is a mistake of
    /// ours.</exception>
    public static nuint Check(nuint result, string call) => IsError(result)
        ? throw new InvalidOperationException($"LZ4 {call} failed: {ErrorName(result)}")
        : result;

    [LibraryImport(Library, EntryPoint = "LZ4F_compressBegin")]
    public static partial nuint CompressBegin(
        CompressionContext context, byte* target, nuint capacity, Preferences* preferences);

    [LibraryImport(Library, EntryPoint = "LZ4F_compressBound")]
    public static partial nuint CompressBound(nuint sourceBytes, Preferences* preferences);

    [LibraryImport(Library, EntryPoint = "LZ4F_compressUpdate")]
    public static partial nuint CompressUpdate(
        CompressionContext context, byte* target, nuint capacity, byte* source, nuint sourceBytes, void* options);

    [LibraryImport(Library, EntryPoint = "LZ4F_compressEnd")]
    public static partial nuint CompressEnd(CompressionContext context, byte* target, nuint capacity, void* options);

    /// <summary>Both sizes are in and out: offered, then used. 0 = the frame is complete, its checksum right.</summary>
    [LibraryImport(Library, EntryPoint = "LZ4F_decompress")]
    public static partial nuint Decompress(
        DecompressionContext context,
        byte* target,
        nuint* targetBytes,
        byte* source,
        nuint* sourceBytes,
        void* options);

    [LibraryImport(Library, EntryPoint = "LZ4F_isError")]
    private static partial uint IsErrorCode(nuint result);

    [LibraryImport(Library, EntryPoint = "LZ4F_getErrorName")]
    private static partial nint GetErrorName(nuint result);

    [LibraryImport(Library, EntryPoint = "LZ4F_createCompressionContext")]
    private static partial nuint CreateCompressionContext(out nint context, uint version);

    [LibraryImport(Library, EntryPoint = "LZ4F_freeCompressionContext")]
    private static partial nuint FreeCompressionContext(nint context);

    [LibraryImport(Library, EntryPoint = "LZ4F_createDecompressionContext")]
    private static partial nuint CreateDecompressionContext(out nint context, uint version);

    [LibraryImport(Library, EntryPoint = "LZ4F_freeDecompressionContext")]
    private static partial nuint FreeDecompressionContext(nint context);

    /// <summary>LZ4F_preferences_t: 56 bytes, all fields zero = the library's defaults.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct Preferences
    {
        public int BlockSizeId;
        public int BlockMode;
        public int ContentChecksum;
        public int FrameType;
        public ulong ContentSize;
        public uint DictionaryId;
        public int BlockChecksum;
        public int CompressionLevel;
        public uint AutoFlush;
        public uint FavorDecompressionSpeed;
        public uint Reserved0;
        public uint Reserved1;
        public uint Reserved2;
    }

    internal sealed class CompressionContext : SafeHandle
    {
        public CompressionContext(nint context)
            : base(0, ownsHandle: true) => SetHandle(context);

        public override bool IsInvalid => handle == 0;

        protected override bool ReleaseHandle() => FreeCompressionContext(handle) == 0;
    }

    internal sealed class DecompressionContext : SafeHandle
    {
        public DecompressionContext(nint context)
            : base(0, ownsHandle: true) => SetHandle(context);

        public override bool IsInvalid => handle == 0;

        // The result is a size hint when a frame was left half-read, not an error.
        protected override bool ReleaseHandle() => !IsError(FreeDecompressionContext(handle));
    }
}
