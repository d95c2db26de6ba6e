using System.Buffers.Binary;
using System.IO.Compression;

namespace KvNode.Testing;

/// <summary>Makes <c>state.bin</c> files as the original kvnode and bitraft did: gzip over length-prefixed
/// records.</summary>
public static class LegacySnapshotFile
{
    public static byte[] Gzip(IEnumerable<(byte[] Key, byte[] Value)> records) => GzipOf(Content(records));

    /// <summary>The records before compression.</summary>
    public static byte[] Content(IEnumerable<(byte[] Key, byte[] Value)> records)
    {
        using var content = new MemoryStream();
        foreach (var (key, value) in records)
        {
            Append(content, key);
            Append(content, value);
        }

        return content.ToArray();
    }

    /// <summary>Any content as one gzip member.</summary>
    public static byte[] GzipOf(byte[] content)
    {
        if (content.Length == 0)
        {
            // .NET writes no bytes at all for no content; Go, and so the originals, a member with an empty last block.
            return [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF, 1, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0];
        }

        using var file = new MemoryStream();
        using (var gzip = new GZipStream(file, CompressionLevel.Optimal, leaveOpen: true))
        {
            gzip.Write(content);
        }

        return file.ToArray();
    }

    private static void Append(MemoryStream content, byte[] bytes)
    {
        Span<byte> length = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(length, (ulong)bytes.Length);
        content.Write(length);
        content.Write(bytes);
    }
}
