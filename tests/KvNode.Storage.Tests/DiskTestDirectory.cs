namespace KvNode.Storage.Tests;

/// <summary>A fresh directory that goes with the test.</summary>
internal sealed class DiskTestDirectory : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("kvnode-disk-").FullName;

    public void Dispose() => Directory.Delete(Path, recursive: true);
}

/// <summary>Order of keys: byte by byte, a prefix first.</summary>
internal sealed class ByteOrder : IComparer<byte[]>
{
    public static ByteOrder Instance { get; } = new();

    public int Compare(byte[]? x, byte[]? y) => x.AsSpan().SequenceCompareTo(y);
}

/// <summary>Keys that meet in every way: shared prefixes around each chunk boundary, runs of 0x00 and 0xFF.</summary>
internal sealed class DiskKeyMaker(int seed)
{
    // Around: the empty key, the link (510/511), each chunk boundary (511 + 503 n), the longest.
    private static readonly int[] Lengths =
    [
        0, 1, 2, 7, 8, 9, 500, 502, 503, 504, 509, 510, 511, 512, 513, 519, 1012, 1013, 1014, 1015, 1016, 1022,
        1516, 1517, 1518, 2019, 2020, 2021, 4096, 16_384, 65_034, 65_035, 65_535, 65_536,
    ];

    private readonly Random _random = new(seed);

    public byte[] Next()
    {
        var length = _random.Next(4) switch
        {
            0 => _random.Next(20),
            1 => _random.Next(480, 1600),
            _ => Lengths[_random.Next(Lengths.Length)],
        };
        if (length > 4096 && _random.Next(4) != 0)
        {
            length = _random.Next(505, 1030);
        }

        // Few different fills, then a few bytes changed anywhere: many keys share long prefixes.
        var key = new byte[length];
        Array.Fill(key, _random.Next(3) switch { 0 => (byte)0x00, 1 => (byte)0xFF, _ => (byte)'k' });
        for (var changes = _random.Next(3); changes > 0 && length > 0; changes--)
        {
            var at = _random.Next(3) == 0 ? length - 1 : _random.Next(length);
            key[at] = _random.Next(3) switch { 0 => (byte)0x00, 1 => (byte)0xFF, _ => (byte)_random.Next(256) };
        }

        return key;
    }
}
