using KvNode.Storage.Snapshots;
using Xunit;

namespace KvNode.Storage.Tests;

/// <summary>One record in a test.</summary>
internal sealed record SnapshotRecord(byte[] Key, byte[] Value, ValueTag Tag = ValueTag.String);

/// <summary>What the snapshot tests share: files from records and records from files.</summary>
internal static class SnapshotSupport
{
    public static SnapshotHeader HeaderFor(int count) =>
        new(77, 3, 1_700_000_000_123, count, ["10.0.0.1:4920", "[::1]:4921"]);

    public static byte[] Write(IReadOnlyList<SnapshotRecord> records, SnapshotHeader? header = null)
    {
        using var stream = new SnapshotStream(header ?? HeaderFor(records.Count), new ListSource(records));
        return ReadAll(stream, 100_000);
    }

    public static byte[] ReadAll(SnapshotStream stream, int pieceBytes)
    {
        using var file = new MemoryStream();
        var piece = new byte[pieceBytes];
        int count;
        while ((count = stream.Read(piece)) > 0)
        {
            file.Write(piece, 0, count);
        }

        return file.ToArray();
    }

    public static (SnapshotHeader Header, List<SnapshotRecord> Records) Read(byte[] file, int pieceBytes = 10_000)
    {
        using var reader = new SnapshotReader(new MemoryStream(file));
        var records = new List<SnapshotRecord>();
        var piece = new byte[pieceBytes];
        while (reader.MoveNext())
        {
            using var value = new MemoryStream();
            int count;
            while ((count = reader.ReadValue(piece)) > 0)
            {
                value.Write(piece, 0, count);
            }

            Assert.Equal(reader.ValueLength, value.Length);
            records.Add(new SnapshotRecord(reader.Key.ToArray(), value.ToArray(), reader.Tag));
        }

        Assert.False(reader.MoveNext());
        return (reader.Header, records);
    }

    /// <summary>Keys ascending and different; lengths mostly small, now and then at the limits that matter.</summary>
    public static List<SnapshotRecord> RandomRecords(Random random, int count)
    {
        var keys = new SortedSet<byte[]>(Comparer<byte[]>.Create((a, b) => a.AsSpan().SequenceCompareTo(b)));
        while (keys.Count < count)
        {
            var length = random.Next(20) == 0 ? random.Next(StoreLimits.KeyBytesMax + 1) : random.Next(24);
            var key = new byte[length];
            random.NextBytes(key);
            _ = keys.Add(key);
        }

        var records = new List<SnapshotRecord>();
        foreach (var key in keys)
        {
            var value = new byte[random.Next(50) == 0 ? random.Next(600_000) : random.Next(200)];
            if (random.Next(2) == 0)
            {
                random.NextBytes(value);
            }

            records.Add(new SnapshotRecord(key, value, random.Next(5) == 0 ? ValueTag.Hash : ValueTag.String));
        }

        return records;
    }

    public static void AssertSame(IReadOnlyList<SnapshotRecord> expected, IReadOnlyList<SnapshotRecord> actual)
    {
        Assert.Equal(expected.Count, actual.Count);
        for (var i = 0; i < expected.Count; i++)
        {
            Assert.True(IsSame(expected[i], actual[i]), $"record {i} differs");
        }
    }

    public static bool IsSame(SnapshotRecord a, SnapshotRecord b) =>
        a.Tag == b.Tag && a.Key.AsSpan().SequenceEqual(b.Key) && a.Value.AsSpan().SequenceEqual(b.Value);

    /// <summary>Any content as one LZ4 frame, by the same writer.</summary>
    public static byte[] Compress(ReadOnlySpan<byte> content)
    {
        const int Piece = 256 * 1024;
        using var frame = new Lz4FrameWriter(Piece);
        using var file = new MemoryStream();
        var target = new byte[frame.OutputBytesMax];
        file.Write(target, 0, frame.Begin(target));
        while (!content.IsEmpty)
        {
            var piece = content[..Math.Min(Piece, content.Length)];
            file.Write(target, 0, frame.Update(piece, target));
            content = content[piece.Length..];
        }

        file.Write(target, 0, frame.End(target));
        return file.ToArray();
    }

    public static byte[] Decompress(byte[] file)
    {
        using var reader = new Lz4FrameReader(new MemoryStream(file));
        using var content = new MemoryStream();
        var piece = new byte[65_536];
        int count;
        while ((count = reader.Read(piece)) > 0)
        {
            content.Write(piece, 0, count);
        }

        return content.ToArray();
    }

    /// <summary>The test project's folder in the source, found from where the test runs.</summary>
    public static string TestDataPath(string name)
    {
        var directory = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(directory, "KvNode.sln")))
        {
            directory = Path.GetDirectoryName(directory)
                ?? throw new InvalidOperationException("no KvNode.sln above the tests");
        }

        return Path.Combine(directory, "tests", "KvNode.Storage.Tests", "testdata", name);
    }
}

internal sealed class ListSource(IReadOnlyList<SnapshotRecord> records) : IRecordSource
{
    private int _index = -1;

    public bool Disposed { get; private set; }

    public ReadOnlySpan<byte> Key => records[_index].Key;

    public ValueTag Tag => records[_index].Tag;

    public ReadOnlySpan<byte> Value => records[_index].Value;

    public bool MoveNext() => ++_index < records.Count;

    public void Dispose() => Disposed = true;
}

/// <summary>The bytes of a snapshot being written, as a stream, without a copy of the whole in between.</summary>
internal sealed class SnapshotStreamAsStream(SnapshotStream snapshot) : Stream
{
    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override int Read(byte[] buffer, int offset, int count) => snapshot.Read(buffer.AsSpan(offset, count));

    public override int Read(Span<byte> buffer) => snapshot.Read(buffer);

    public override void Flush()
    {
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
}
