using System.Buffers.Binary;

namespace KvNode.Storage;

/// <summary>
/// Sorts keys by the eight bytes after what they all share, as numbers; only where those are equal are whole keys
/// compared.
/// </summary>
internal static unsafe class KeySorter
{
    /// <summary>Sorts pointers to <see cref="BufferKey"/> by key, in byte order. <paramref name="windows"/> is scratch.</summary>
    public static void Sort(Span<nint> keys, Span<ulong> windows)
    {
        if (keys.Length < 2)
        {
            return;
        }

        var shared = SharedPrefix(keys);
        for (var i = 0; i < keys.Length; i++)
        {
            windows[i] = Window(Key(keys[i]), shared);
        }

        windows = windows[..keys.Length];
        windows.Sort(keys);
        for (var start = 0; start < keys.Length;)
        {
            var end = start + 1;
            while (end < keys.Length && windows[end] == windows[start])
            {
                end++;
            }

            if (end - start > 1)
            {
                keys[start..end].Sort(static (left, right) => Key(left).SequenceCompareTo(Key(right)));
            }

            start = end;
        }
    }

    private static ReadOnlySpan<byte> Key(nint key) => BufferKey.Bytes((BufferKey*)key);

    private static int SharedPrefix(ReadOnlySpan<nint> keys)
    {
        var first = Key(keys[0]);
        var shared = first.Length;
        foreach (var key in keys[1..])
        {
            shared = Math.Min(shared, first[..shared].CommonPrefixLength(Key(key)));
        }

        return shared;
    }

    private static ulong Window(ReadOnlySpan<byte> key, int from)
    {
        var rest = key[from..];
        if (rest.Length >= 8)
        {
            return BinaryPrimitives.ReadUInt64BigEndian(rest);
        }

        Span<byte> padded = stackalloc byte[8];
        padded.Clear();
        rest.CopyTo(padded);
        return BinaryPrimitives.ReadUInt64BigEndian(padded);
    }
}
