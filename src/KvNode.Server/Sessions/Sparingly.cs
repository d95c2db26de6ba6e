namespace KvNode.Server.Sessions;

/// <summary>For a log line that others can cause as often as they like: once in a while, with how many were left out. Any
/// thread.</summary>
internal sealed class Sparingly(TimeSpan interval, TimeProvider time)
{
    private readonly Lock _lock = new();
    private long? _saidAt;
    private long _suppressed;

    /// <param name="suppressed">How many were left out since the last one that was said.</param>
    public bool TrySay(out long suppressed)
    {
        lock (_lock)
        {
            suppressed = _suppressed;
            if (_saidAt is { } before && time.GetElapsedTime(before) < interval)
            {
                _suppressed++;
                return false;
            }

            _saidAt = time.GetTimestamp();
            _suppressed = 0;
            return true;
        }
    }
}
