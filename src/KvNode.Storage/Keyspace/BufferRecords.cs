using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace KvNode.Storage;

/// <summary>A key in a write buffer; its bytes follow. Never moves, never changes but for <see cref="Newest"/>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct BufferKey
{
    /// <summary>The newest version; older ones hang behind it. Written by the writer, read by all.</summary>
    public nint Newest;

    public int Length;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ReadOnlySpan<byte> Bytes(BufferKey* key) => new((byte*)key + sizeof(BufferKey), key->Length);

    /// <summary>The version a reader at <paramref name="sequence"/> sees; null when the key came later.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BufferVersion* VisibleAt(BufferKey* key, ulong sequence)
    {
        var version = (BufferVersion*)Volatile.Read(ref key->Newest);
        while (version != null && version->Sequence > sequence)
        {
            version = version->Older;
        }

        return version;
    }
}

/// <summary>One value a key has had; the value's bytes, tag first, follow. Immutable once published.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct BufferVersion
{
    public const int Tombstone = -1;

    public BufferVersion* Older;
    public ulong Sequence;

    /// <summary>Bytes of the value, or <see cref="Tombstone"/>.</summary>
    public int Length;

    public static ReadOnlySpan<byte> Value(BufferVersion* version) =>
        new((byte*)version + sizeof(BufferVersion), version->Length);
}
