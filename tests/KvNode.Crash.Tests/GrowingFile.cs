namespace KvNode.Crash.Tests;

/// <summary>The bytes of a file while changes are applied to it.</summary>
internal sealed class GrowingFile
{
    private byte[] _bytes = new byte[4096];
    private int _length;

    public ReadOnlyMemory<byte> Bytes => _bytes.AsMemory(0, _length);

    public void Apply(JournalRecord record)
    {
        switch (record.Kind)
        {
            case JournalKind.Write:
                GrowTo(checked((int)record.Offset + record.Data.Length));
                record.Data.Span.CopyTo(_bytes.AsSpan((int)record.Offset));
                break;
            case JournalKind.Truncate:
                var length = checked((int)record.Length);
                GrowTo(length);
                _bytes.AsSpan(length, _length - length).Clear();
                _length = length;
                break;
            default:
                GrowTo(checked((int)(record.Offset + record.Length)));
                break;
        }
    }

    private void GrowTo(int length)
    {
        if (length > _bytes.Length)
        {
            Array.Resize(ref _bytes, Math.Max(length, checked(_bytes.Length * 2)));
        }

        _length = Math.Max(_length, length);
    }
}
